"""Reading gradients, and the rows that iterations become."""

from __future__ import annotations
