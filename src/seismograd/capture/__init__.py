"""Record the calls of the training loop: every call becomes an event, and the ready gradients are
read at the right moment.
"""
