"""Devices, arithmetic and processes that share a training. May import `run`."""
