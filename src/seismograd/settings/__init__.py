"""The settings of a run: which rules, which elements, how much to measure, within which budget."""

from __future__ import annotations
