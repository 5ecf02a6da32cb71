"""SG702 rank-outlier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, numbers, runs, site_of
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import AnyArray, EventKind, Evidence, Finding, RankFlag, RowBatch


@final
@dataclass
class RankOutlier(Rule):
    """One process has gradients that are unlike those of all others.

    What it finds
        A process whose own gradients, before they are averaged, are NaN or infinite while those of
        the others are not, or many times as large, step after step: its share of the data is
        different, or its hardware is broken.

    Why it hurts
        The average takes it in. One NaN on one process makes the gradient NaN on all, and no
        process can tell afterwards whose it was. One that is a hundred times too large decides the
        step alone.

    How it decides
        Not finite: a process has scalars that are NaN or infinite in a step in which another one,
        which was looked at as well, has none. Too large: its norm is at least {min_ratio:g} times
        the median of the processes in {min_share:.0%} of at least {min_steps:g} steps.

    False alarms
        Processes that do different work on purpose, such as the stages of a pipeline.

    What to try
        - Run the data of that process alone: its shard may hold samples that are broken, or not
          normalised like the others.
        - Put the process on another device; if the trouble stays with the device, it is the
          hardware.
        - Give every process the same preprocessing and the same loss; a mean over fewer samples has
          larger gradients.

    References
        - Zhang et al. (2022), OPT: open pre-trained transformer language models: hardware that
          fails in long runs.
        - Dixit et al. (2021), Silent data corruptions at scale.
    """

    code: ClassVar[str] = "SG702"
    name: ClassVar[str] = "rank-outlier"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()

    min_ratio: float = 10.0
    min_share: float = 0.8
    min_steps: int = 10

    # in which several processes were looked at
    _num_steps: int = field(default=0, init=False, repr=False)
    _counts: dict[int, _OutlierCount] = field(
        default_factory=dict[int, "_OutlierCount"], init=False, repr=False
    )
    _finding: Finding | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        if not len(block.ranks):
            return
        told = self._finding
        looked = block.ranks[(integers(block.ranks, "flags") & int(RankFlag.LOCAL)) != 0]
        norms, bad, names = (
            numbers(looked, "local_norm"),
            integers(looked, "local_nonfinite"),
            as_list(integers(looked, "rank")),
        )
        for iteration, position in runs(integers(looked, "iteration")):
            if position.stop - position.start < 2:
                continue
            self._num_steps += 1
            # false where one is NaN
            if (
                not bad[position].any()
                and norms[position].max() < self.min_ratio * norms[position].min()
            ):
                for rank in names[position]:
                    self._count_of(rank).num_steps += 1
            else:
                self._not_finite(block, looked[position], iteration)
                self._too_large(block, looked[position], iteration)
        if self._finding is not None and self._finding is not told:
            yield self._finding

    def shortfall(self) -> Message | None:
        if self._num_steps < self.min_steps:
            return say(
                "needs {needed} steps with the own gradients of several processes, has {has}",
                needed=self.min_steps,
                has=self._num_steps,
            )
        return None

    def _count_of(self, rank: int) -> _OutlierCount:
        count = self._counts.get(rank)
        if count is None:
            count = self._counts[rank] = _OutlierCount()
        return count

    def _not_finite(self, block: RowBatch, ranks: AnyArray, iteration: int) -> None:
        count = integers(ranks, "local_nonfinite")
        if not count.any() or count.all():
            return
        worst = int(np.argmax(count))
        rank = int(ranks["rank"][worst])
        if self._finding is not None:
            self._finding = replace(self._finding, last_step=iteration)
            return
        cause = say(
            "at step {step} {count} scalars of the gradient of rank {rank} are NaN or infinite "
            "before averaging, while those of {clean} "
            "other ranks are finite: the NaN comes from rank {rank}",
            step=iteration,
            count=int(count[worst]),
            rank=rank,
            clean=int((count == 0).sum()),
        )
        self._finding = self._found(
            block,
            iteration,
            iteration,
            cause,
            Evidence("local_nonfinite", "", iteration, float(count[worst]), 0.0),
        )

    def _too_large(self, block: RowBatch, ranks: AnyArray, iteration: int) -> None:
        norm = numbers(ranks, "local_norm")
        if not np.isfinite(norm).all():
            return
        for position, rank in enumerate(as_list(integers(ranks, "rank"))):
            usual = float(np.median(np.delete(norm, position)))
            large = usual > 0 and float(norm[position]) >= self.min_ratio * usual
            count = self._count_of(rank)
            count.num_steps += 1
            count.num_large += int(large)
            count.first = iteration if large and count.first < 0 else count.first
            if (
                not large
                or count.num_steps < self.min_steps
                or count.num_large < self.min_share * count.num_steps
            ):
                continue
            if self._finding is not None:
                self._finding = replace(self._finding, last_step=iteration)
                continue
            cause = say(
                "the gradient of rank {rank} is {times:.2g} times as large as the median of the "
                "other ranks at step {step}, and was so in "
                "{num} of {all} steps",
                rank=rank,
                times=float(norm[position]) / usual,
                step=iteration,
                num=count.num_large,
                all=count.num_steps,
            )
            evidence = Evidence(
                "local_norm", "", iteration, float(norm[position]), self.min_ratio * usual
            )
            self._finding = self._found(block, count.first, iteration, cause, evidence)

    def _found(
        self, block: RowBatch, first: int, last: int, cause: Message, evidence: Evidence
    ) -> Finding:
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=first,
            last_step=last,
            parameters=(),
            evidence=(evidence,),
            cause=cause,
            advice=say(
                "look at the data of that rank alone, then run it on another device: what moves "
                "with the device is the hardware, what "
                "stays is the data"
            ),
            where=site_of(block, EventKind.BACKWARD, last),
            excerpt="print(rank, [bool(torch.isfinite(x).all()) for x in batch])",
        )


@dataclass(slots=True)
class _OutlierCount:
    """How often the norm of one process was large."""

    num_steps: int = 0
    num_large: int = 0
    first: int = -1
