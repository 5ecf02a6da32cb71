"""Several processes that train together: each measures what it holds, and rank 0 puts the
numbers together, off the training path.
"""
