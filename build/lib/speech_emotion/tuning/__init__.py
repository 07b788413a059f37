"""Search for better training settings with Optuna. Start at `search.search`."""
