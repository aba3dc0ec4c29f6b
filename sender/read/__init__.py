"""A path becomes volumes."""
