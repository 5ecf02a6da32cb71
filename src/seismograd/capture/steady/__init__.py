"""The short way of a steady step: what nearly every step does, without looking for what it does not
do. Each visit takes it or leaves it by itself, so nothing has to be put right afterwards.
"""
