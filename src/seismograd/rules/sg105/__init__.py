"""SG105 gradient-underflow."""

from __future__ import annotations
