"""Log trainings to MLflow, live and later."""
