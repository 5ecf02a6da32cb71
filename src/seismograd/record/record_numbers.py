"""Number what a session hands on as the record does in which it goes on: the session begins anew
with the lines of the script, the optimizers, their steps and the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from seismograd.record.reader import Run
from seismograd.schema import Fact, IntArray, Optimizer, Parameter, RowBatch, SampleBatch, Site


class RecordNumbers:
    """What there was in a record up to the row that a session goes on behind."""

    def __init__(self, run: Run) -> None:
        self.sites: list[Site] = list(run.sites)
        self.optimizers: list[Optimizer] = list(run.optimizers)
        self._number_of_site = {site: number for number, site in enumerate(self.sites)}
        self._site_map: list[int] = []  # by the number of the session, as is the next
        self._optimizer_map: list[int] = []
        steps = run.steps
        self._began_s = float(np.nanmax(steps["time_s"], initial=0.0)) if len(steps) else 0.0
        self._num_steps = np.zeros(len(self.optimizers) + 1, np.int64)
        for number in range(len(self.optimizers)):
            own = steps["step"][steps["optimizer"] == number]
            self._num_steps[number] = 1 + int(own.max(initial=-1))
        self._parameters: tuple[tuple[Parameter, ...], tuple[Parameter, ...]] = ((), ())

    def rows(self, batch: RowBatch) -> RowBatch:
        """Return rows of the session as rows of the record."""
        self._take_sites(batch.sites)
        self._take_optimizers(batch.optimizers)
        sites, optimizers = _array(self._site_map), _array(self._optimizer_map)
        steps, events, pairs = batch.steps.copy(), batch.events.copy(), batch.pairs.copy()
        steps["optimizer"] = _mapped(steps["optimizer"], optimizers)
        counts = np.zeros(len(self.optimizers) + 1, np.int64)  # the last is for -1
        counts[: len(self._num_steps) - 1] = self._num_steps[:-1]
        steps["step"] += counts[steps["optimizer"]]
        steps["time_s"] += self._began_s
        events["time_s"] += self._began_s
        events["site"] = _mapped(events["site"], sites)
        events["optimizer"] = _mapped(events["optimizer"], optimizers)
        events["touched"] = self._touched(events["touched"])
        for name in ("first", "second"):
            pairs[name] = _mapped(pairs[name], sites)
        return replace(
            batch,
            parameters=self._columns(batch.parameters),
            steps=steps,
            events=events,
            pairs=pairs,
            sites=self.sites,
            optimizers=self.optimizers,
        )

    def fact(self, fact: Fact) -> Fact:
        """Return a fact of the session as one of the record."""
        return replace(fact, optimizer=self._optimizer(fact.optimizer))

    def sample(self, batch: SampleBatch) -> SampleBatch:
        """Return a sample of the session as one of the record."""
        return replace(batch, optimizer=self._optimizer(batch.optimizer))

    def _optimizer(self, number: int) -> int:
        known = 0 <= number < len(self._optimizer_map)
        return self._optimizer_map[number] if known else number

    def _take_sites(self, sites: Sequence[Site]) -> None:
        for site in sites[len(self._site_map) :]:
            number = self._number_of_site.setdefault(site, len(self.sites))
            if number == len(self.sites):
                self.sites.append(site)
            self._site_map.append(number)

    def _take_optimizers(self, optimizers: Sequence[Optimizer]) -> None:
        """Find each in the record: one of the same class and name, as many of them as there are."""
        for optimizer in optimizers[len(self._optimizer_map) :]:
            number = next(
                (
                    number
                    for number, each in enumerate(self.optimizers)
                    if (each.kind, each.name) == (optimizer.kind, optimizer.name)
                    and number not in self._optimizer_map
                ),
                len(self.optimizers),
            )
            if number == len(self.optimizers):
                self.optimizers.append(replace(optimizer, index=number))
            self._optimizer_map.append(number)

    def _touched(self, bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return the bits of optimizers at their places in the record."""
        if self._optimizer_map == list(range(len(self._optimizer_map))):
            return bits
        moved = np.zeros_like(bits)
        for number, place in enumerate(self._optimizer_map[:64]):
            if place < 64:
                moved |= (bits >> np.uint64(number) & np.uint64(1)) << np.uint64(place)
        return moved

    def _columns(self, parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        """Return the parameters with the numbers of their optimizers; the same for the same."""
        given, made = self._parameters
        if parameters is not given:
            made = tuple(
                each
                if each.optimizer is None
                else replace(each, optimizer=self._optimizer(each.optimizer))
                for each in parameters
            )
            self._parameters = parameters, made
        return made


def _array(numbers: Sequence[int]) -> IntArray:
    return np.array([*numbers, -1], np.int64)  # -1 stays


def _mapped(numbers: npt.NDArray[np.generic], places: IntArray) -> IntArray:
    return places[np.clip(numbers.astype(np.int64), -1, len(places) - 1)]
