"""The container of iPhone photos, read tile by tile. May import `photo`'s limits and `errors`."""
