"""Live prediction in a terminal."""
