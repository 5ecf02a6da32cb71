"""One file per function that is listened to, as in `patches`: what a call means for the windows
of the optimizers it concerns.
"""
