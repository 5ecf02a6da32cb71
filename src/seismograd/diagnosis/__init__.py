"""Running the rules, and what they come to."""

from __future__ import annotations
