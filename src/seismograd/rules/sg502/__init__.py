"""SG502 clip-norm-disagrees."""

from __future__ import annotations
