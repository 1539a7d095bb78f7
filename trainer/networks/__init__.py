"""Backbones, heads, heatmaps, augmentation and the out-of-distribution score. May import `compute` and `run`."""
