"""Publish, compare, promote and resolve registered models."""
