"""Drawn photos of five dishes, in the layout of Food-101. May import `run`."""
