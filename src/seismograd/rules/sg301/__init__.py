"""SG301 missing-zero-grad."""

from __future__ import annotations
