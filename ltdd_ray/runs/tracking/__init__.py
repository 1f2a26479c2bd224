"""Numbers and files of a run at MLflow and Weights & Biases."""
