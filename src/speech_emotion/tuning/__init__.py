"""Takes a search space and a corpus's features; gives the best training settings found. `search` is the way in."""
