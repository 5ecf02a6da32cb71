"""The output formats of `show` and `check`."""

from __future__ import annotations
