"""Clipping: by norm, by value, by unit, and limits that learn."""

from __future__ import annotations
