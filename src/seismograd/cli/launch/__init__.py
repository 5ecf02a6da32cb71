"""Run a script as `python` would, with its processes."""

from __future__ import annotations
