"""The sections of params.yaml as frozen, strict models."""
