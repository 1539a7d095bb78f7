"""The reader of ``channels.json`` of an earlier release; see NOTE.md."""
