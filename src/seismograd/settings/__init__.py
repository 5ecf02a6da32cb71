"""What a run is asked to do: which rules, which elements, how much to measure, within which
budget.
"""

from __future__ import annotations
