"""Where figures of a training go besides its folder: TensorBoard and MLflow; imports nothing of the trainer but run."""
