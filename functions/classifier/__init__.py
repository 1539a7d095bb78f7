"""Pointer's runtime: photos in, labels, confidences and heatmaps out. Never imports TensorFlow or Keras."""
