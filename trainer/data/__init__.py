"""Data sets as frames, checked and prepared photos, mirrors of buckets. May import `run`."""
