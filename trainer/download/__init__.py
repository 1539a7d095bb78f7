"""Data sets brought from where they are published, verified and unpacked. May import `data` and `run`."""
