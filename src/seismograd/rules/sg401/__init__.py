"""SG401 parameter-not-optimized."""

from __future__ import annotations
