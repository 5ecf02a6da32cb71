"""Compare pairs of losses that are backpropagated separately, or named by the script: how their
gradients agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from seismograd.analysis.block_rows import distinct, integers
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, EventKind, Fact, FactKind, FloatArray, RowBatch, Site

KEPT = 64  # comparisons
EARLY = 10


class PairSample(NamedTuple):
    """One comparison of two gradients over all parameters that both losses reach."""

    step: int
    first_norm: float
    second_norm: float
    cosine: float


@dataclass(slots=True)
class LossPair:
    """Two losses, and how their gradients compared in the first iterations and in the last ones."""

    first: Site
    second: Site
    early: list[PairSample] = field(default_factory=list[PairSample])
    late: list[PairSample] = field(default_factory=list[PairSample])
    comparable: bool = False  # of the same forward pass, or named by the script
    rescaled: tuple[bool, bool] = (False, False)  # the script multiplied the loss by a number
    summed: bool = False  # before one backward, so compared at the activations that they share

    def add(self, compared: PairSample) -> None:
        """Add one more comparison."""
        if len(self.early) < EARLY:
            self.early.append(compared)
        self.late = [*self.late, compared][-KEPT:]

    def name(self, second: bool) -> str:
        """Return the name of a loss, or where it is backpropagated."""
        site = self.second if second else self.first
        return site.label or str(site)


@dataclass(slots=True)
class LossPairs:
    """All pairs of losses seen so far, by their places in the script."""

    found: dict[tuple[str, str], LossPair] = field(default_factory=dict[tuple[str, str], LossPair])
    _summed: Fact | None = None  # a loss of several terms
    # the iteration in which each stepped first
    _optimizers: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, block: RowBatch) -> Iterator[tuple[LossPair, int]]:
        """Read the next iterations; yield each pair and iteration in which it was compared.

        Losses of different forward passes are skipped where there are several optimizers: they may
        be meant to oppose each other, as those of a discriminator do.
        """
        optimizer = integers(block.steps, "optimizer")
        for each in distinct(optimizer):
            if each >= 0 and each not in self._optimizers:
                self._optimizers[each] = int(block.steps["iteration"][np.argmax(optimizer == each)])
        if not len(block.pairs):
            return
        flags = _flags(block)
        at_weights = {
            (int(each["first"]), int(each["second"]))
            for each in block.pairs[integers(block.pairs, "parameter") >= 0]
        }
        for entry in block.pairs[integers(block.pairs, "parameter") == -1]:
            step, first, second = int(entry["iteration"]), int(entry["first"]), int(entry["second"])
            key = _key(block.sites[first]), _key(block.sites[second])
            pair = self.found.setdefault(key, LossPair(block.sites[first], block.sites[second]))
            pair.summed = (first, second) not in at_weights
            of_first, of_second = flags.get((step, first), 0), flags.get((step, second), 0)
            pair.comparable |= bool((of_first | of_second) & int(EventFlag.SHARED)) or bool(
                pair.first.label and pair.second.label
            )
            pair.rescaled = (
                bool(of_first & int(EventFlag.RESCALED)),
                bool(of_second & int(EventFlag.RESCALED)),
            )
            pair.add(
                PairSample(
                    step,
                    float(entry["first_norm"]),
                    float(entry["second_norm"]),
                    float(entry["cosine"]),
                )
            )
            if pair.comparable or sum(begin <= step for begin in self._optimizers.values()) < 2:
                yield pair, step

    def learn(self, fact: Fact) -> None:
        """Take a fact; those of kind `SUMMED_LOSS` say why nothing was compared."""
        if fact.kind == FactKind.SUMMED_LOSS and self._summed is None:
            self._summed = fact

    def shortfall(self, needed: int, summed: bool) -> Message | None:
        """Return the message about what is missing to judge any pair; `summed`: also one of losses
        that are summed before one backward.
        """
        judged = [pair for pair in self.found.values() if summed or not pair.summed]
        num = max((len(cosines(pair.late)) for pair in judged), default=0)
        if num == 0 and self._summed is not None:
            return say(
                "the losses are summed before backward at {line} ({terms} terms), which leaves one "
                "gradient for all of them; name them with seismograd.losses to compare them",
                line=self._summed.where or "?",
                terms=int(self._summed.number("terms")),
            )
        if num < needed:
            return say(
                "needs {needed} comparisons of the gradients of several losses, has {has}",
                needed=needed,
                has=num,
            )
        return None


def cosines(entries: list[PairSample]) -> FloatArray:
    """Return the cosines that are known."""
    values = np.array([each.cosine for each in entries], np.float64)
    return values[np.isfinite(values)]


def ratios(entries: list[PairSample]) -> FloatArray:
    """Return by which factor the first norm exceeds the second, where both are finite and not
    zero.
    """
    first = np.array([each.first_norm for each in entries], np.float64)
    second = np.array([each.second_norm for each in entries], np.float64)
    usable = np.isfinite(first) & np.isfinite(second) & (first > 0) & (second > 0)
    return first[usable] / second[usable]


def _flags(block: RowBatch) -> dict[tuple[int, int], int]:
    """Return the flags of each backward, by its iteration and site."""
    wanted = np.isin(integers(block.events, "iteration"), integers(block.pairs, "iteration"))
    wanted &= integers(block.events, "kind") == EventKind.BACKWARD
    return {
        (int(each["iteration"]), int(each["site"])): int(each["flags"])
        for each in block.events[wanted]
    }


def _key(site: Site) -> str:
    return f"{site} {site.label}"
