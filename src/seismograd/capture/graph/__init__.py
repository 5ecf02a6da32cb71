"""What the autograd graph of a loss shows of the forward pass."""

from __future__ import annotations
