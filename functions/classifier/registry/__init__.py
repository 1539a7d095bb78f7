"""Versions, the pointer and its history: every rule of them. May import `storage` and `errors`."""
