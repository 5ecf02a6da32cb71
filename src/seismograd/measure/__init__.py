"""Measure gradients: tensors in, numbers out, in one transfer to the host per device. Uses torch,
and does not depend on its callers.
"""
