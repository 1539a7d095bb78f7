"""Phases, features, checkpoints: photos to a trained network. May import `networks`, `data`, `metrics`, `compute`."""
