"""The source text of the script: its statements, and what of them a record may hold."""

from __future__ import annotations
