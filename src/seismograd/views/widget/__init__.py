"""A run as a live widget of a notebook."""
