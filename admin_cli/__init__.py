"""The command line of whoever rolls out models. Never imports Keras or TensorFlow."""
