"""SG701 replica-drift."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from seismograd.analysis.block_rows import distinct, flagged, integers, runs, site_of
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark, say
from seismograd.rules.sg701.own_parameters import OwnParameters
from seismograd.schema import (
    AnyArray,
    EventKind,
    Evidence,
    Fact,
    FactKind,
    Finding,
    RankFlag,
    RowBatch,
)


@dataclass(frozen=True, slots=True)
class _Drift:
    """Processes whose weights differ from those of the first that holds the same."""

    iteration: int
    first: int
    odd: tuple[int, ...]
    num: int
    where: str


@final
@dataclass
class ReplicaDrift(Rule):
    """Processes that should hold the same weights hold different ones.

    What it finds
        Data-parallel training whose replicas are not copies of each other: a model that was never
        wrapped in `DistributedDataParallel`, parameters that are left out of the reduction or
        changed on one process only, or a step that one process takes and another skips.

    Why it hurts
        The average of gradients that were computed with different weights is not the gradient of
        any model. Each replica learns something different, and the checkpoint contains only one.

    How it decides
        Each process computes a checksum from the bits of its weights. The checksums of processes
        that hold the same parameters must be exactly equal; the rule reports drift if they differ
        in {num_checks:g} checks in a row, or in the last check of the run. If they agree again
        later, as with replicas that are averaged from time to time, the finding becomes info.

        Processes may hold different tensors under one name: the experts of a layer, or its shards.
        Parameters are replicas if the weights are the same everywhere, or the gradients are once
        they have been reduced. If some are and others are not, the others count as experts or
        shards and are not compared. If they began with the same random weights, they may as well
        have been left out of the reduction, and the rule warns, unless the name or a mark of the
        framework shows an expert. If none are the same but activations are exchanged, it is info.

    False alarms
        An ensemble. Experts or shards that every process initialised with the same seed.

    What to try
        - Wrap the model with `model = DistributedDataParallel(model)`, and call the wrapped model,
          not `model.module`.
        - Make all processes agree on whether to take a step: reduce the flag over the processes.
        - Set the same seed on all processes before the model is created.

    References
        - PyTorch documentation, Distributed data parallel: internal design.
    """

    code = "SG701"
    name = "replica-drift"
    severity = "error"

    num_checks: int = 2

    _num_checked: int = memory(int)  # iterations with sums of several processes
    _last: int = memory(int)  # of those
    _num: int = memory(int)  # checks in a row that differ
    _first: _Drift | None = memory(lambda: None)
    _had_agreed: bool = memory(bool)
    _own: OwnParameters = memory(OwnParameters)
    _is_of_own: bool = memory(bool)  # what was found

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.OWNERSHIP:
            self._own.facts.append(fact)
        return ()

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        summed = block.ranks[flagged(block.ranks, RankFlag.CHECKSUM)]
        for iteration, rows in runs(integers(summed, "iteration")):
            groups = _replicas(summed[rows])
            if groups:
                self._num_checked, self._last = self._num_checked + 1, iteration
                self._check(_drift(block, groups, iteration), iteration)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        if not self.found and self._first is not None:
            found = self._finding(self._first)
            self.found.add(replace(found, severity="warning") if self._had_agreed else found)
        elif not self.found:
            self._judge_own(math.inf, 0)
        return self.found.take()

    def shortfall(self) -> Message | None:
        template = mark("needs weight checksums from {needed} processes, has {has}")
        return None if self._num_checked else too_few(template, 0, 2)

    def _check(self, drift: _Drift | None, iteration: int) -> None:
        """Take the result of one check."""
        if drift is None:
            self._judge_own(iteration, self.num_checks)
            found = self.found.get()
            if found is None or self._is_of_own:
                self._num, self._first, self._had_agreed = 0, None, True
            elif found.severity != "info":
                self.found.add(replace(found, severity="info"))
                self.found.extend(iteration)
            return
        self._num, self._first = self._num + 1, self._first or drift
        if (not self.found or self._is_of_own) and self._num >= self.num_checks:
            self._is_of_own = False
            self.found.add(self._finding(self._first))
        if self.found:
            self.found.extend(iteration)

    def _judge_own(self, iteration: float, enough: int) -> None:
        """Report parameters of which every process has its own."""
        finding = None if self._is_of_own else self._own.finding(self, iteration, enough)
        if finding is not None and not self.found:
            self._is_of_own = True
            self.found.add(finding)
        if self._is_of_own:
            self.found.extend(int(min(iteration, self._last)))

    def _finding(self, drift: _Drift) -> Finding:
        values = {
            "step": drift.iteration,
            "first": drift.first,
            "odd": ", ".join(str(each) for each in drift.odd[:8]),
            "num": len(drift.odd),
            "all": drift.num,
        }
        num_odd = float(len(drift.odd))
        return self.finding(
            first_step=drift.iteration,
            evidence=(Evidence("differing_replicas", "", drift.iteration, num_odd, 0.0),),
            cause=say(
                "the weights of rank {odd} differ from those of rank {first} since step {step} and "
                "were the same before: one of them took a step or used a gradient that the other "
                "did not",
                **values,
            )
            if self._had_agreed
            else say(
                "the weights of rank {odd} differ from those of rank {first} at step {step} and "
                "have differed from the beginning: nothing keeps the {all} replicas in sync",
                **values,
            ),
            advice=say(
                "wrap the model in DistributedDataParallel, which copies the weights of rank 0 to "
                "all ranks and averages the gradients, and make all ranks agree on whether to step"
            ),
            where=drift.where,
            excerpt="model = DistributedDataParallel(model)",
        )


def _replicas(ranks: AnyArray) -> list[AnyArray]:
    """Return the processes that hold the same parameters, in groups of two or more."""
    of = integers(ranks, "replica_of")
    groups = [ranks[of == group] for group in distinct(of) if group >= 0]
    return [each for each in groups if len(each) > 1]


def _drift(block: RowBatch, groups: list[AnyArray], iteration: int) -> _Drift | None:
    """Return the first group whose checksums differ."""
    for members in groups:
        sums, names = members["weight_checksum"], integers(members, "rank")
        odd = tuple(names[np.flatnonzero(sums != sums[0])].tolist())
        if odd:
            where = site_of(block, EventKind.STEP, iteration)
            return _Drift(iteration, int(names[0]), odd, len(members), where)
    return None
