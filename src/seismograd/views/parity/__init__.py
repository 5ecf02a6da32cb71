"""Whether two runs have the same gradients: to rounding, up to a factor, or from where on not."""
