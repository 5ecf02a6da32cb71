"""SG203 skipped-steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import (
    as_list,
    iteration_at,
    numbers,
    site_of,
    skipped_by_scaler,
)
from seismograd.diagnosis.rule import Rule, memory, per_optimizer, too_few
from seismograd.i18n import Message, mark, say
from seismograd.schema import EventKind, Evidence, Finding, RowBatch


@dataclass(slots=True)
class _SkipTrack:
    """The state of one optimizer."""

    good: float = -math.inf  # the last scale at which a step was carried out
    count: int = 0  # steps since the first of those
    num: int = 0  # skips that the search for a scale does not explain
    first: int = -1


@final
@dataclass
class SkippedSteps(Rule):
    """`GradScaler` keeps skipping updates after it has found its scale.

    What it finds
        Mixed-precision training in which steps are skipped again and again at scales that worked
        before, or in which the scale falls below one: overflows that no scale can fix.

    Why it hurts
        A skipped step trains nothing, and nothing shows it. Each skip halves the scale, and if the
        scale is too low, small gradients vanish in float16.

    How it decides
        Skips before the first step that is not skipped belong to the search for a scale. So does a
        skip at a scale higher than the last one that worked, because the scaler tries a higher one
        from time to time. Other skips count: there must be at least {min_skips:g} of them, and they
        must be at least {min_share:.0%} of the steps since the first one that was not skipped. The
        rule also reports a step that is skipped while the scale is below {min_scale:g}.

    False alarms
        A few batches among many that overflow in float16, if they exceed these thresholds.

    What to try
        - Find where the overflow comes from: apply `torch.isfinite` to the output of each block
          under autocast, starting with attention scores, exponentials and sums over many elements;
          compute that part in float32 with `torch.autocast("cuda", enabled=False)`.
        - Use bfloat16, which has the range of float32 and needs no scaler.

    References
        - PyTorch documentation, Automatic mixed precision: `GradScaler`; pytorch/pytorch#67590.
        - Micikevicius et al. (2018), Mixed precision training.
    """

    code = "SG203"
    name = "skipped-steps"
    severity = "warning"

    min_skips: int = 4
    min_share: float = 0.05
    min_scale: float = 1.0

    _num_steps: int = memory(int)  # with a scaled loss, or skipped
    _tracks: dict[int, _SkipTrack] = per_optimizer(_SkipTrack)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        scale, skipped = numbers(block.steps, "scale"), skipped_by_scaler(block.steps)
        scaled = np.flatnonzero(skipped | (scale != 1))
        self._num_steps += len(scaled)
        for row in as_list(scaled):
            track = self._tracks[int(block.steps["optimizer"][row])]
            if not skipped[row]:
                track.good, track.count = float(scale[row]), track.count + 1
                continue
            track.count += int(track.good > 0)
            if (track.good > 0 and scale[row] <= track.good) or scale[row] < self.min_scale:
                self._add(track, block, row)
        return self.found.take()

    def shortfall(self) -> Message | None:
        template = mark("needs {needed} step with a scaled loss, has {has}")
        return too_few(template, self._num_steps, 1)

    def _add(self, track: _SkipTrack, block: RowBatch, row: int) -> None:
        """Count a skip that the search for a scale does not explain."""
        step, optimizer = iteration_at(block, row), int(block.steps["optimizer"][row])
        track.num, track.first = track.num + 1, step if track.num == 0 else track.first
        sinks = block.steps["scale"][row] < self.min_scale
        if optimizer in self.found:
            self.found.extend(step, optimizer)
        elif sinks or track.num >= max(self.min_skips, self.min_share * track.count):
            self.found.add(self._finding(track, block, row, bool(sinks)))

    def _finding(self, track: _SkipTrack, block: RowBatch, row: int, sinks: bool) -> Finding:
        step, scale = iteration_at(block, row), float(block.steps["scale"][row])
        num, first, good = track.num, track.first, track.good
        values = {"num": num, "first": first, "step": step, "scale": scale, "good": good}
        return self.finding(
            optimizer=int(block.steps["optimizer"][row]),
            first_step=first,
            last_step=step,
            evidence=(
                Evidence("scale", "", step, scale, self.min_scale if sinks else good),
                Evidence("skipped_steps", "", step, float(num), float(self.min_skips)),
            ),
            cause=say(
                "the loss scale has fallen to {scale:.2g} at step {step}, and steps are still "
                "skipped: the overflow is in the forward pass, where no scale can help",
                **values,
            )
            if sinks
            else say(
                "{num} steps have been skipped since step {first}, although their loss scale "
                "({scale:g} at step {step}) was no higher than one that had worked ({good:g}): "
                "the gradients overflow for another reason",
                **values,
            ),
            advice=say(
                "find the operation that overflows in float16 and compute it in float32, use "
                "bfloat16, or remove samples whose values are far too large"
            ),
            where=site_of(block, EventKind.SCALER_UPDATE, step)
            or site_of(block, EventKind.BACKWARD, step),
            excerpt='with torch.autocast("cuda", enabled=False):\n    scores = (q.float() @ '
            "k.float().mT).softmax(-1)",
        )
