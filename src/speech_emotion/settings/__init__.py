"""Takes params.yaml; gives frozen, strict, typed models, one module a section.

Each stage imports only the sections that it reads, so that a new key in one section reruns only what reads it.
"""
