"""The reader of ``manifest.json`` of an earlier release; see NOTE.md."""
