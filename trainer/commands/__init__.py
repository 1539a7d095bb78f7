"""The commands of `trainer`, one file a subject: each parses its options, calls the library and prints."""
