"""SG701 replica-drift."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from seismograd.analysis.block_rows import distinct, integers, runs, site_of
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
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


@final
@dataclass
class ReplicaDrift(Rule):
    """Processes that should hold the same weights hold different ones.

    What it finds
        Data-parallel training whose replicas are not copies of each other: a model that was never
        wrapped in `DistributedDataParallel`, weights initialised from different seeds, parameters
        that are left out of the reduction or changed on one process only, or a step that one
        process takes and another skips.

    Why it hurts
        The average of gradients that were computed with different weights is not the gradient of
        any model. Each replica learns something different, the checkpoint contains only one of
        them, and the reported loss belongs to a model that was never trained.

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
        Training that lets replicas diverge on purpose and never averages them, such as an ensemble.
        Experts or shards that began with the same weights because every process had the same seed.

    What to try
        - Wrap the model with `model = DistributedDataParallel(model)`, and call the wrapped model,
          not `model.module`.
        - Make all processes agree on whether to take a step: reduce the flag (a NaN, an overflow,
          an empty batch) over the processes.
        - Set the same seed on all processes before the model is created, or load the same
          checkpoint on all of them.

    References
        - Li et al. (2020), PyTorch Distributed: experiences on accelerating data parallel training.
        - PyTorch documentation, Distributed data parallel: internal design.
    """

    code = "SG701"
    name = "replica-drift"
    severity = "error"

    num_checks: int = 2

    # iterations with sums of several processes
    _num_checked: int = field(default=0, init=False, repr=False)
    _num: int = field(default=0, init=False, repr=False)  # checks in a row that differ
    _first: _Drift | None = field(default=None, init=False, repr=False)
    _had_agreed: bool = field(default=False, init=False, repr=False)
    _ownership: list[Fact] = field(default_factory=list[Fact], init=False, repr=False)
    _is_of_names: bool = field(default=False, init=False, repr=False)  # what was found
    _last: int = field(default=0, init=False, repr=False)  # iteration that was checked
    _last_fact: Fact | None = field(default=None, init=False, repr=False)
    _num_unchanged: int = field(default=0, init=False, repr=False)  # checks with that fact

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.OWNERSHIP:
            self._ownership.append(fact)
        return ()

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        if not len(block.ranks):
            return ()
        summed = block.ranks[(integers(block.ranks, "flags") & int(RankFlag.CHECKSUM)) != 0]
        for iteration, position in runs(integers(summed, "iteration")):
            self._check(block, summed[position], iteration)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        if not self.found and self._first is not None:
            found = self._first.finding(self, self._had_agreed)
            self.found.add(replace(found, severity="warning") if self._had_agreed else found)
        elif not self.found:
            self._look_at_names(math.inf)
        return self.found.take()

    def shortfall(self) -> Message | None:
        if not self._num_checked:
            return say("needs weight checksums from {needed} processes, has {has}", needed=2, has=0)
        return None

    def _look_at_names(self, iteration: float) -> None:
        """Report what is known of parameters of which every process has its own, once it has been
        so for several checks, or at the end.
        """
        known = [fact for fact in self._ownership if fact.iteration <= iteration]
        if not known:
            return
        fact = known[-1]
        names = tuple(name for name in fact.parameters if not _is_of_an_expert(name))
        if self._is_of_names:
            self.found.extend(int(min(iteration, self._last)))
            return
        self._num_unchanged = self._num_unchanged + 1 if fact is self._last_fact else 1
        self._last_fact = fact
        if self.found or (self._num_unchanged < self.num_checks and iteration < math.inf):
            return
        finding = None
        if names and not fact.number("ambiguous"):
            finding = _forgotten(self, fact, names)
        elif fact.number("ambiguous"):
            finding = _ambiguous(self, fact)
        if finding is not None:
            self._is_of_names = True
            self.found.add(finding)
            self.found.extend(int(min(iteration, self._last)))

    def _check(self, block: RowBatch, ranks: AnyArray, iteration: int) -> None:
        """Compare the checksums of one iteration."""
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
        self._num_checked, self._last = self._num_checked + 1, iteration
        if differ is None:
            self._look_at_names(iteration)
            found = self.found.get()
            if found is None or self._is_of_names:
                self._num, self._first, self._had_agreed = 0, None, True
            elif found.severity != "info":
                self.found.add(replace(found, severity="info"))
                self.found.extend(iteration)
            return
        self._num += 1
        self._first = self._first or differ
        if (not self.found or self._is_of_names) and self._num >= self.num_checks:
            self._is_of_names = False
            self.found.add(self._first.finding(self, self._had_agreed))
        if self.found:
            self.found.extend(iteration)


def _is_of_an_expert(name: str) -> bool:
    return "expert" in name.lower() or "moe" in name.lower().split(".")


def _forgotten(rule: ReplicaDrift, fact: Fact, names: tuple[str, ...]) -> Finding:
    """Return the finding about parameters that began alike and are not kept the same."""
    return rule.finding(
        first_step=fact.iteration,
        severity="warning",
        parameters=names,
        evidence=(
            Evidence("differing_parameters", names[0], fact.iteration, float(len(names)), 0.0),
        ),
        cause=say(
            "{name} began with the same weights on all ranks, but its gradient is different on "
            "each of them, while those of {same} other parameters are the same ({num} "
            "{num:parameter|parameters}): "
            "they are left out of the reduction, or they are experts or shards that every rank "
            "has initialized with the same seed",
            name=names[0],
            num=len(names),
            same=int(fact.number("same")),
        ),
        advice=say(
            "if every rank should hold the same, reduce their gradients too; if they are experts, "
            "mark them with parameter.allreduce = False and give every rank a seed of its own"
        ),
        excerpt="dist.all_reduce(parameter.grad, op=dist.ReduceOp.AVG)",
    )


def _ambiguous(rule: ReplicaDrift, fact: Fact) -> Finding:
    """Return the finding about processes that have nothing in common but the names."""
    num = int(fact.number("separate"))
    return rule.finding(
        first_step=fact.iteration,
        severity="info",
        evidence=(Evidence("differing_parameters", "", fact.iteration, float(num), 0.0),),
        cause=say(
            "all {num} {num:parameter is|parameters are} different on each rank: they are shards "
            "or stages of one "
            "model, since the ranks exchange activations, or replicas that nothing keeps in sync",
            num=num,
        ),
        advice=say(
            "nothing to change if they are shards or stages; wrap the model in "
            "DistributedDataParallel if they are replicas"
        ),
        excerpt="model = DistributedDataParallel(model)",
    )


@dataclass(frozen=True, slots=True)
class _Drift:
    """Processes whose weights differ from those of the first that holds the same."""

    iteration: int
    first: int
    odd: tuple[int, ...]
    num: int
    where: str

    def finding(self, rule: ReplicaDrift, had_agreed: bool) -> Finding:
        """Return the finding about them."""
        values: dict[str, str | int | float] = {
            "step": self.iteration,
            "first": self.first,
            "odd": ", ".join(str(each) for each in self.odd[:8]),
            "num": len(self.odd),
            "all": self.num,
        }
        if had_agreed:
            cause = say(
                "the weights of rank {odd} differ from those of rank {first} since step {step} and "
                "were the same before: one of them took a step or used a gradient that the other "
                "did not",
                **values,
            )
        else:
            cause = say(
                "the weights of rank {odd} differ from those of rank {first} at step {step} and "
                "have differed from the beginning: nothing keeps the {all} replicas in sync",
                **values,
            )
        return rule.finding(
            first_step=self.iteration,
            evidence=(
                Evidence("differing_replicas", "", self.iteration, float(len(self.odd)), 0.0),
            ),
            cause=cause,
            advice=say(
                "wrap the model in DistributedDataParallel, which copies the weights of rank 0 to "
                "all ranks and averages the gradients, and make all ranks agree on whether to step"
            ),
            where=self.where,
            excerpt="model = DistributedDataParallel(model)",
        )
