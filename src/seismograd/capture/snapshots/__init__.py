"""Keep whole gradients, weights and batches of chosen moments, on request."""
