"""Helpers that make torch's tensors readable: the lowest room with torch."""

from __future__ import annotations
