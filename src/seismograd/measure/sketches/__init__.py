"""Linear sketches: a few signed sums of each gradient, of which inner products follow."""
