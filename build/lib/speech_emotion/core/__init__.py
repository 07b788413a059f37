"""Errors, files, processes, parallel work and progress: what every other package uses."""
