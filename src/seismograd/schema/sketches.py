"""Sketches of gradients: a few signed sums of each, of which inner products follow."""

from __future__ import annotations

SKETCH_WIDTH = 64
