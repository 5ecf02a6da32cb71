"""Measurements made only now and then, because they cost more than the rest: updates, several
losses.
"""

from __future__ import annotations
