"""Publish, compare, promote and resolve models in the MLflow registry."""
