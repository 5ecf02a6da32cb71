"""Several losses of one step."""

from __future__ import annotations
