"""The patched functions of torch, one file each: the patch, and what a call does to the windows of
the optimizers it concerns.
"""
