"""Predict emotions with a trained package."""
