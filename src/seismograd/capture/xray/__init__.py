"""The X-ray: the signals of modules, forward and backward, in sampled steps."""
