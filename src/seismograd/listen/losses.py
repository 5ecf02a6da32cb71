"""What the graph of a loss shows before its backward: over how much it is a mean, whether its forward pass is a new one, its origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from seismograd.listen.graph import last_number
from seismograd.listen.iteration import Heard
from seismograd.listen.lanes import Lane
from seismograd.listen.log import Log
from seismograd.listen.loss import reduction_of
from seismograd.listen.origin import origin_of
from seismograd.listen.sharing import Sharing
from seismograd.listen.windows import Window
from seismograd.schema import SAMPLE_EVERY, EventFlag

MAX_ORIGINS = 4  # losses that are not finite whose origin is looked for
FIRST = 32  # backwards whose loss is looked at in any case


class Losses:
    """Looks at every loss of loops with several backwards a step, and elsewhere at the first ones and then at every tenth."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._sharing = Sharing()
        self._num = 0
        self._num_origins = 0

    def look(self, lane: Lane, heard: Heard, listed: tuple[Any, ...], tops: list[Any], windows: Sequence[Window], extras: bool) -> None:
        """Add to what was heard of a backward. `windows` are those that it may concern."""
        self._num += 1
        if extras and len(listed) == 1 and (self._num <= FIRST or self._num % SAMPLE_EVERY == 0 or _has_several(windows)):
            heard.reduction = reduction_of(listed[0])
            if heard.reduction is not None:
                self._log.wait_for([*heard.reduction.count.pending(), *heard.reduction.weight.pending()])
        before = -1
        for window in windows:
            heard.flags |= window.flags_within()
            if window.losses and not window.evaluates_again:
                before = max(before, window.last_operation)
        if before >= 0 and self._sharing.shared(heard.site, tops, before):
            heard.flags |= EventFlag.SHARED
        lane.last_operation = last_number(tops)
        known = heard.value.known and heard.value.tensor is None
        if known and not math.isfinite(heard.value.value) and self._num_origins < MAX_ORIGINS and tops[0] is not None:
            self._num_origins += 1
            heard.detail = int(origin_of(tops[0]))


def _has_several(windows: Sequence[Window]) -> bool:
    """Whether any of these windows is one of several backwards."""
    return any(window.losses or window.num_backwards_before > 1 for window in windows)
