"""One file for each tracker; each is imported only when it was asked for."""
