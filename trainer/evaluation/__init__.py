"""Figures of a served file, on test photos and on photos of something else. May import `data`, `metrics` and `run`."""
