"""Live MLflow runs of a training and their event log."""
