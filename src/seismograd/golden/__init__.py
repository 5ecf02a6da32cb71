"""Pin the gradients of a training in a file, and compare a later training with it."""
