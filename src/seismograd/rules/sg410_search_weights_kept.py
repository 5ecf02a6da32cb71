"""SG410 search-weights-kept."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import flagged, integers, numbers, site_of
from seismograd.analysis.rate_search import RateSearch
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, known, memory, too_few
from seismograd.i18n import Message, mark, say
from seismograd.schema import EventKind, Evidence, Finding, FloatArray, IntArray, StepFlag


@final
@dataclass
class SearchWeightsKept(Rule):
    """A search for the learning rate has wrecked the weights, and the training goes on with them.

    What it finds
        A learning rate range test, which raises the rate from step to step until the loss explodes,
        on the model that is trained afterwards, without the weights from before being loaded back.

    Why it hurts
        The training does not begin at the initialisation, or at the pretrained weights, but where
        the highest rates have thrown the weights. It has to find its way back at a moderate rate,
        with dead units and weights that are far too large, and often ends worse. The loss falls
        from a high level, so it looks like learning.

    How it decides
        In at least {min_raised} and at most {max_raised} steps the learning rate is raised and
        never lowered, to {min_growth:g} times its first value or more, and after its lowest level
        the loss has risen to {min_blown:g} times that or more, or was not finite. At the next step
        the rate is lower than the last one by a factor of {min_fall:g} or more, and the loss is
        still at least {min_left:g} times the highest of those with which the search began; the
        next ones are no lower than that either.

    False alarms
        A second training on other data, whose loss is higher from the start, right after a search
        that exploded. Where the weights were loaded back, the loss is as at first again.

    What to try
        - `before = copy.deepcopy(model.state_dict())` before the search, and
          `model.load_state_dict(before)` after it.
        - Search on `copy.deepcopy(model)`, or make the model anew, with the same seed.
        - `LRFinder.reset()` of torch-lr-finder restores model and optimizer.

    References
        - Smith (2017), Cyclical Learning Rates for Training Neural Networks: the range test.
    """

    code: ClassVar[str] = "SG410"
    name: ClassVar[str] = "search-weights-kept"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG102", "SG103", "SG104", "SG107")

    min_raised: int = 10
    max_raised: int = 2000
    min_growth: float = 100.0
    min_blown: float = 3.0
    min_fall: float = 10.0
    min_left: float = 1.5

    _num_rows: int = memory(int)
    _search: RateSearch | None = memory(lambda: None)
    _ended: RateSearch | None = memory(lambda: None)
    _resumed: tuple[int, float, str] = memory(lambda: (-1, math.nan, ""))

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        rates, losses = numbers(block.steps, "lr"), numbers(block.steps, "loss")
        steps, has_loss = (
            integers(block.steps, "iteration"),
            ~flagged(block.steps, StepFlag.NO_LOSS),
        )
        self._num_rows += len(block)
        updated = [rows for _, rows in block.updated]
        rows = np.unique(np.concatenate(updated)) if updated else np.empty(0, np.int64)
        rows = rows[has_loss[rows] & (rates[rows] > 0) & np.isfinite(rates[rows])]
        self._read_all(block, steps[rows], rates[rows], losses[rows])
        return self.found.take()

    def shortfall(self) -> Message | None:
        return too_few(mark("needs {needed} steps, has {has}"), self._num_rows, self.min_raised)

    def _read_all(
        self, block: SharedBlock, steps: IntArray, rates: FloatArray, losses: FloatArray
    ) -> None:
        """Read the steps of a block, those of one rate together."""
        search = self._search
        falls_on = len(rates) > 1 and bool((rates[1:] < rates[:-1]).all())
        if (
            falls_on
            and search is not None
            and rates[0] < search.rate
            and self._ended is None
            and search.num_raised < self.min_raised
        ):  # as a schedule that decays at each step
            steps, rates, losses = steps[-1:], rates[-1:], losses[-1:]
        ends = [*(np.flatnonzero(rates[1:] != rates[:-1]) + 1).tolist(), len(rates)]
        at = 0
        for end in ends:
            while at < end and not self.found:
                self._read(block, int(steps[at]), float(rates[at]), float(losses[at]))
                at += 1
                if self._ended is None and self._search is not None:
                    self._search.add_level(int(steps[end - 1]), losses[at:end])
                    at = end
            if self.found:
                return

    def _read(self, block: SharedBlock, step: int, rate: float, loss: float) -> None:
        search = self._search
        if search is not None and rate < search.rate:
            if self._is_blown(search, rate):
                self._ended = search
                self._resumed = step, rate, site_of(block, EventKind.STEP, step)
            search = None
        if search is None:
            search = self._search = RateSearch(step, rate, rate)
        search.add(step, rate, loss)
        ended = self._ended
        if ended is not None:
            ended.after.append(loss if math.isfinite(loss) else math.inf)
            if ended.is_known:
                self._ended = None
                if ended.is_left(self.min_left):
                    self.found.add(self._finding(ended, step))

    def _is_blown(self, search: RateSearch, rate: float) -> bool:
        """Return whether a search ends with this rate, whose losses have exploded."""
        return (
            self.min_raised <= search.num_raised <= self.max_raised
            and search.growth >= self.min_growth
            and rate * self.min_fall <= search.rate
            and 0 < search.lowest < math.inf
            and 0 < max(search.first) < math.inf
            and search.highest >= self.min_blown * search.lowest
        )

    def _finding(self, search: RateSearch, step: int) -> Finding:
        resumed, rate, where = self._resumed
        after = search.after[0]
        return self.finding(
            first_step=search.first_step,
            last_step=step,
            evidence=known(
                Evidence("lr", "", search.last_step, search.rate, search.first_rate),
                Evidence("loss", "", resumed, after, self.min_left * max(search.first)),
            ),
            cause=say(
                "from step {first} to step {last} the learning rate is raised from {low:.2g} to "
                "{high:.2g}, as in a search for the best one, and the loss explodes (from "
                "{lowest:.3g} to {highest:.3g}); at step {step} the training goes on with "
                "{rate:.2g} and these wrecked weights: the loss begins at {after:.3g}, where the "
                "search began with {begin:.3g}",
                first=search.first_step,
                last=search.last_step,
                low=search.first_rate,
                high=search.rate,
                lowest=search.lowest,
                highest=search.highest,
                step=resumed,
                rate=rate,
                after=after,
                begin=search.first[0],
            ),
            advice=say(
                "keep the weights from before the search and load them back after it, or search "
                "on a copy of the model"
            ),
            where=where,
            seen_only=True,
            excerpt="before = copy.deepcopy(model.state_dict())  # before the search\n"
            "model.load_state_dict(before)  # after it",
        )
