"""The formats in which `show` and `check` answer."""

from __future__ import annotations
