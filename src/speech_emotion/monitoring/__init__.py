"""Audio statistics, the prediction log, and drift from the training data."""
