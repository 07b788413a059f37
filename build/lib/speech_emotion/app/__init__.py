"""The web page and the live terminal view."""
