"""Listening: who calls what, when. Every call becomes an event; at the right moment the ready
gradients are read.
"""
