"""Measure on CUDA devices: one Triton kernel for all statistics, with asynchronous results. No step
waits for a device.
"""
