"""Where the first number of a loss or a gradient arose that is not finite."""
