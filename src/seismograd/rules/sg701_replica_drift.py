"""SG701 replica-drift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import distinct, integers, runs, site_of
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import AnyArray, EventKind, Evidence, Finding, RankFlag, RowBatch


@final
@dataclass
class ReplicaDrift(Rule):
    """Processes that should hold the same weights hold different ones.

    What it finds
        Data-parallel training whose replicas are not copies of each other: a model that was never
        wrapped in `DistributedDataParallel`, weights initialised from different seeds, parameters
        that are left out of the reduction or changed on one process only, a step that one process
        takes and another skips.

    Why it hurts
        The average of gradients that were computed at different weights is the gradient of no
        model. Each replica learns its own way, the checkpoint holds only that of one, and the
        measured loss is of a model that nobody trains.

    How it decides
        Each process adds up the bits of its weights. Processes that hold the same parameters must
        come to the same sum, exactly; it is drift when they do not in {num_checks:g} checks in a
        row, or in the last there is. When they agree again later, as replicas that are averaged now
        and then do, it becomes a mere information.

    False alarms
        Training that means to let replicas go apart, without ever averaging them, such as an
        ensemble.

    What to try
        - Wrap the model: `model = DistributedDataParallel(model)`, and call that, not
          `model.module`.
        - Let all processes decide alike whether a step is taken: reduce the flag (a NaN, an
          overflow, an empty batch) over the processes.
        - Seed all processes alike before the model is made, or load one checkpoint on all.

    References
        - Li et al. (2020), PyTorch Distributed: experiences on accelerating data parallel training.
        - PyTorch documentation, Distributed data parallel: internal design.
    """

    code: ClassVar[str] = "SG701"
    name: ClassVar[str] = "replica-drift"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()

    num_checks: int = 2

    # iterations with sums of several processes
    _num_checked: int = field(default=0, init=False, repr=False)
    _num: int = field(default=0, init=False, repr=False)  # checks in a row that differ
    _first: _Drift | None = field(default=None, init=False, repr=False)
    _had_agreed: bool = field(default=False, init=False, repr=False)
    _finding: Finding | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        if not len(block.ranks):
            return
        told = self._finding
        summed = block.ranks[(integers(block.ranks, "flags") & int(RankFlag.CHECKSUM)) != 0]
        for iteration, position in runs(integers(summed, "iteration")):
            self._check(block, summed[position], iteration)
        if self._finding is not None and self._finding is not told:
            yield self._finding

    def finish(self) -> Iterator[Finding]:
        if self._finding is None and self._first is not None:
            found = self._first.finding(self, self._had_agreed)
            self._finding = replace(found, severity="warning") if self._had_agreed else found
            yield self._finding

    def shortfall(self) -> Message | None:
        if not self._num_checked:
            return say(
                "needs sums of the weights of {needed} processes, has {has}", needed=2, has=0
            )
        return None

    def _check(self, block: RowBatch, ranks: AnyArray, iteration: int) -> None:
        """Compare the sums of one iteration."""
        differ: _Drift | None = None
        compared = False
        for group in distinct(integers(ranks, "replica_of")):
            members = ranks[integers(ranks, "replica_of") == group]
            if group < 0 or len(members) < 2:
                continue
            compared = True
            sums = members["weight_checksum"]
            odd = np.flatnonzero(sums != sums[0])
            if len(odd) and differ is None:
                where = site_of(block, EventKind.STEP, iteration)
                differ = _Drift(
                    iteration,
                    int(members["rank"][0]),
                    tuple(int(each) for each in members["rank"][odd]),
                    len(members),
                    where,
                )
        if not compared:
            return
        self._num_checked += 1
        if differ is None:
            if self._finding is not None and self._finding.severity != "info":
                self._finding = replace(
                    self._finding,
                    severity="info",
                    last_step=max(iteration, self._finding.last_step),
                )
            if self._finding is None:
                self._num, self._first, self._had_agreed = 0, None, True
            return
        self._num += 1
        self._first = self._first or differ
        if self._finding is None and self._num >= self.num_checks:
            self._finding = self._first.finding(self, self._had_agreed)
        if self._finding is not None:
            self._finding = replace(self._finding, last_step=iteration)


@dataclass(frozen=True, slots=True)
class _Drift:
    """Processes whose weights differ from those of the first that holds the same."""

    iteration: int
    first: int
    odd: tuple[int, ...]
    num: int
    where: str

    def finding(self, rule: ReplicaDrift, had_agreed: bool) -> Finding:
        """What is to be said of it."""
        values: dict[str, str | int | float] = {
            "step": self.iteration,
            "first": self.first,
            "odd": ", ".join(str(each) for each in self.odd[:8]),
            "num": len(self.odd),
            "all": self.num,
        }
        if had_agreed:
            cause = say(
                "the weights of rank {odd} differ from those of rank {first} since step {step}; "
                "before, they were the same: one of them "
                "took a step, or a gradient, that the others did not",
                **values,
            )
        else:
            cause = say(
                "the weights of rank {odd} differ from those of rank {first} at step {step}, and "
                "did from the beginning: nothing keeps the "
                "{all} replicas together",
                **values,
            )
        return Finding(
            code=rule.code,
            name=rule.name,
            severity=rule.severity,
            optimizer=-1,
            first_step=self.iteration,
            last_step=self.iteration,
            parameters=(),
            evidence=(
                Evidence("differing_replicas", "", self.iteration, float(len(self.odd)), 0.0),
            ),
            cause=cause,
            advice=say(
                "wrap the model in DistributedDataParallel, which copies the weights of rank 0 to "
                "all and averages the gradients, and let "
                "all ranks decide alike whether to step"
            ),
            where=self.where,
            excerpt="model = DistributedDataParallel(model)",
        )
