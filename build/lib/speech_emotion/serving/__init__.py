"""Serve predictions over HTTP and as an MLflow pyfunc."""
