"""SG112 moves-without-gradient."""

from __future__ import annotations
