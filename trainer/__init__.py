"""Pointer's trainer: a folder of photos in, an evaluated and ready-to-publish bundle out. Keras 3, any machine."""

import os

# Must be set before Keras is first imported; a value that the user has set stays.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
