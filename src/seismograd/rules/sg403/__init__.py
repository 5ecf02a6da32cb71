"""SG403 frozen-parameter."""

from __future__ import annotations
