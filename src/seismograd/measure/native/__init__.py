"""Measure on the CPU with a kernel in C++: one read of memory for all statistics. `library` loads
it, `backend` measures.
"""
