"""Training in several processes: each measures what it holds, and rank 0 combines the numbers off
the training path.
"""
