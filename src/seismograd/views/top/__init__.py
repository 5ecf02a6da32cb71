"""A run in a terminal, live, from another process than the training: what is found, the worst
layers, and their course.
"""
