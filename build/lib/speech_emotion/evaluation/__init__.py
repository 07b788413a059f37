"""Metrics, intervals, reports, plots and the model card."""
