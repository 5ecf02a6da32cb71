"""Print for the command line, and read its own options."""

from __future__ import annotations
