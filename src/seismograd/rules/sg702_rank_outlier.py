"""SG702 rank-outlier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import as_list, flagged, integers, numbers, runs, site_of
from seismograd.analysis.medians import median
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark, say
from seismograd.schema import AnyArray, EventKind, Evidence, Finding, RankFlag, RowBatch


@dataclass(slots=True)
class _OutlierCount:
    """How often the norm of one process was large."""

    num_steps: int = 0
    num_large: int = 0
    first: int = -1

    def add(self, is_large: bool, iteration: int) -> None:
        """Add a step."""
        self.num_steps, self.num_large = self.num_steps + 1, self.num_large + int(is_large)
        self.first = iteration if is_large and self.first < 0 else self.first


@final
@dataclass
class RankOutlier(Rule):
    """The gradients of one process differ from those of all others.

    What it finds
        A process whose own gradients, before averaging, are NaN or infinite while those of the
        others are not, or are many times as large in step after step: its part of the data is
        different, or its hardware is faulty.

    Why it hurts
        The average includes it. A single NaN on one process makes the gradient NaN on all, and
        afterwards none can see where it came from. A gradient far too large dominates the step.

    How it decides
        Not finite: a process has NaN or infinite scalars in a step in which another process that
        was checked as well has none. Too large: the norm of a process is at least {min_ratio:g}
        times the median over the processes in {min_share:.0%} of at least {min_steps:g} steps.

    False alarms
        Processes that do different work on purpose, such as the stages of a pipeline.

    What to try
        - Run the data of that process alone: its shard may contain corrupt samples.
        - Move the process to another device; if the problem stays with the device, the hardware is
          the cause.
        - Use the same preprocessing and the same loss on every process; a mean over fewer samples
          has larger gradients.

    References
        - Dixit et al. (2021), Silent data corruptions at scale.
    """

    code = "SG702"
    name = "rank-outlier"
    severity = "warning"

    min_ratio: float = 10.0
    min_share: float = 0.8
    min_steps: int = 10

    _num_steps: int = memory(int)  # in which several processes were inspected
    _counts: defaultdict[int, _OutlierCount] = memory(lambda: defaultdict(_OutlierCount))

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        looked = block.ranks[flagged(block.ranks, RankFlag.LOCAL)]
        norms, bad = numbers(looked, "local_norm"), integers(looked, "local_nonfinite")
        for iteration, rows in runs(integers(looked, "iteration")):
            if rows.stop - rows.start < 2:
                continue
            self._num_steps += 1
            # false where one is NaN
            is_close = norms[rows].max() < self.min_ratio * norms[rows].min()
            if is_close and not bad[rows].any():
                for rank in as_list(integers(looked, "rank")[rows]):
                    self._counts[rank].add(False, iteration)
            else:
                self._not_finite(block, looked[rows], iteration)
                self._too_large(block, looked[rows], iteration)
        return self.found.take()

    def shortfall(self) -> Message | None:
        template = mark(
            "needs {needed} steps with the local gradients of several processes, has {has}"
        )
        return too_few(template, self._num_steps, self.min_steps)

    def _not_finite(self, block: RowBatch, ranks: AnyArray, iteration: int) -> None:
        count = integers(ranks, "local_nonfinite")
        if not count.any() or count.all():
            return
        worst = int(np.argmax(count))
        cause = say(
            "at step {step}, the gradient of rank {rank} contains NaN or infinite scalars before "
            "averaging ({count}), while other ranks have none (ranks without: {clean}): the NaN "
            "comes from rank {rank}",
            step=iteration,
            count=int(count[worst]),
            rank=int(ranks["rank"][worst]),
            clean=int((count == 0).sum()),
        )
        evidence = Evidence("local_nonfinite", "", iteration, float(count[worst]), 0.0)
        self._add(block, iteration, iteration, cause, evidence)

    def _too_large(self, block: RowBatch, ranks: AnyArray, iteration: int) -> None:
        norms = numbers(ranks, "local_norm")
        if not np.isfinite(norms).all():
            return
        for position, rank in enumerate(as_list(integers(ranks, "rank"))):
            usual, norm = median(np.delete(norms, position)), float(norms[position])
            large = usual > 0 and norm >= self.min_ratio * usual
            count = self._counts[rank]
            count.add(large, iteration)
            is_often = count.num_large >= self.min_share * count.num_steps
            if not large or not is_often or count.num_steps < self.min_steps:
                continue
            cause = say(
                "the gradient of rank {rank} is {times:.2g} times the median of the other ranks at "
                "step {step}; it was this large in {num} of {all} steps",
                rank=rank,
                times=norm / usual,
                step=iteration,
                num=count.num_large,
                all=count.num_steps,
            )
            evidence = Evidence("local_norm", "", iteration, norm, self.min_ratio * usual)
            self._add(block, count.first, iteration, cause, evidence)

    def _add(
        self, block: RowBatch, first: int, last: int, cause: Message, evidence: Evidence
    ) -> None:
        """Describe the first process; another one only makes the finding longer."""
        if self.found:
            self.found.extend(last)
            return
        finding = self.finding(
            first_step=first,
            last_step=last,
            evidence=(evidence,),
            cause=cause,
            advice=say(
                "check the data of that rank alone, then run it on another device: if the problem "
                "moves with the rank, the data is the cause; if it stays with the device, the "
                "hardware is"
            ),
            where=site_of(block, EventKind.BACKWARD, last),
            seen_only=True,
            excerpt="print(rank, [bool(torch.isfinite(x).all()) for x in batch])",
        )
        self.found.add(finding)
