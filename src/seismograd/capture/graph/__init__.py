"""Information about the forward pass, read from the autograd graph of a loss."""

from __future__ import annotations
