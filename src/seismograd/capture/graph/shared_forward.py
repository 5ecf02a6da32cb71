"""Detect several losses of one forward pass: several backwards are then several losses, not several
micro-batches.
"""

from __future__ import annotations

from typing import Any

from seismograd.capture.graph.traversal import shares_operations
from seismograd.schema import SAMPLE_EVERY

LOOKS = 4  # backwards of a line that are all inspected before only every tenth is


class SharedForward:
    """Remembers the answer for each line of the script, because finding it takes a walk through the
    whole graph.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._shared: dict[int, bool] = {}

    def shared(self, site: int, tops: list[Any], last_operation: int) -> bool:
        """Return whether the graph below these nodes contains operations of the graph whose last
        operation has this number.
        """
        count = self._counts[site] = self._counts.get(site, 0) + 1
        if count <= LOOKS or count % SAMPLE_EVERY == 0:
            self._shared[site] = shares_operations(tops, last_operation)
        return self._shared.get(site, False)
