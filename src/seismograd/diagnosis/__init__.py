"""Run the rules, and combine their findings."""

from __future__ import annotations
