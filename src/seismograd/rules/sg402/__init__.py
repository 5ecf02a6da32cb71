"""SG402 no-gradient."""

from __future__ import annotations
