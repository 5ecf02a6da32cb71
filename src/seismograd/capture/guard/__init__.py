"""Leave out an update that would harm the training."""
