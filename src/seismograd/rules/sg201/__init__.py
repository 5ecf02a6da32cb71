"""SG201 nonfinite-gradient."""

from __future__ import annotations
