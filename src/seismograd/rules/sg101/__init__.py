"""SG101 vanishing-gradient."""

from __future__ import annotations
