"""Keras Tuner's searches: their space, trials, processes and folder. May import `training`."""
