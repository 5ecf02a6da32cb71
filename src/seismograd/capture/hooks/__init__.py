"""One file for each function of torch that is listened to: its patch, and what a call means for the
windows of the optimizers that it concerns.
"""
