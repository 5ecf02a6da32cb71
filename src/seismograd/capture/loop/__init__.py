"""The training loop as it is seen: windows of optimizers, iterations, and when they are handed
on.
"""

from __future__ import annotations
