"""Objects with generations, on a folder and in Cloud Storage. May import `errors`."""
