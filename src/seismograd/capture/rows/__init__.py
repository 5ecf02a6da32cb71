"""Read gradients and turn iterations into rows."""

from __future__ import annotations
