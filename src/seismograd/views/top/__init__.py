"""A live view of a run in a terminal, from another process than the training: the findings, the
worst layers, and their course.
"""
