"""A run: its stages in order, preflight, and where they are computed."""
