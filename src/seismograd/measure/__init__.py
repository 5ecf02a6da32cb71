"""Measuring: gradients in, numbers out, in one transfer to the host per device. Uses torch,
knows nothing of who asks.
"""
