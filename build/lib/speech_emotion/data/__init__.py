"""Corpora, labels, the manifest and splits."""
