"""SG103 gradient-spike."""

from __future__ import annotations
