"""Measuring on CUDA devices: one kernel in Triton for all statistics, and numbers that come when
they come. No step waits for a device.
"""
