"""SG203 skipped-steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, numbers, site_of, skipped_by_scaler
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Finding, RowBatch


@final
@dataclass
class SkippedSteps(Rule):
    """`GradScaler` keeps skipping updates after it has found its scale.

    What it finds
        Mixed-precision training in which steps are skipped again and again at scales that worked
        before, or in which the scale falls below one: overflows that the scale does not cause and
        cannot fix.

    Why it hurts
        A skipped step trains nothing, and nothing shows it: the loss is printed as usual, and the
        learning rate schedule moves on. Each skip halves the scale, and if the scale is too low,
        small gradients vanish in float16.

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
        - Check the batches that are skipped: one sample may have values that are far too large.

    References
        - PyTorch documentation, Automatic mixed precision: `GradScaler`, `growth_interval` and
          `backoff_factor`; pytorch/pytorch#67590.
        - Micikevicius et al. (2018), Mixed precision training.
    """

    code: ClassVar[str] = "SG203"
    name: ClassVar[str] = "skipped-steps"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ()

    min_skips: int = 4
    min_share: float = 0.05
    min_scale: float = 1.0

    _num_steps: int = field(default=0, init=False, repr=False)  # with a scaled loss, or skipped
    _tracks: dict[int, _SkipTrack] = field(
        default_factory=dict[int, "_SkipTrack"], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        scale, skipped = (
            numbers(block.steps, "scale"),
            skipped_by_scaler(block.steps),
        )
        scaled = skipped | (scale != 1)
        if not scaled.any():
            return ()
        self._num_steps += int(scaled.sum())
        optimizer = integers(block.steps, "optimizer")
        for row in as_list(np.flatnonzero(scaled)):
            track = self._tracks.setdefault(int(optimizer[row]), _SkipTrack())
            if not skipped[row]:
                track.good, track.count = float(scale[row]), track.count + 1
                continue
            track.count += 1 if track.good > 0 else 0
            if (track.good > 0 and scale[row] <= track.good) or scale[row] < self.min_scale:
                self._take(track, block, row, float(scale[row]), int(optimizer[row]))
        return self.found.take()

    def shortfall(self) -> Message | None:
        return (
            None
            if self._num_steps
            else say("needs {needed} step with a scaled loss, has {has}", needed=1, has=0)
        )

    def _take(
        self, track: _SkipTrack, block: RowBatch, row: int, scale: float, optimizer: int
    ) -> None:
        """Count a skip that the search for a scale does not explain."""
        step = int(block.steps["iteration"][row])
        track.num, track.first = track.num + 1, step if track.num == 0 else track.first
        if optimizer in self.found:
            self.found.extend(step, optimizer)
        elif scale < self.min_scale or (
            track.num >= self.min_skips and track.num >= self.min_share * track.count
        ):
            self.found.add(self._finding(track, block, step, scale, optimizer))

    def _finding(
        self, track: _SkipTrack, block: RowBatch, step: int, scale: float, optimizer: int
    ) -> Finding:
        sinking = scale < self.min_scale
        values: dict[str, str | int | float] = {
            "num": track.num,
            "first": track.first,
            "step": step,
            "scale": scale,
            "good": track.good,
        }
        evidence = Evidence("scale", "", step, scale, self.min_scale if sinking else track.good)
        return self.finding(
            optimizer=optimizer,
            first_step=track.first,
            last_step=step,
            evidence=(
                evidence,
                Evidence("skipped_steps", "", step, float(track.num), float(self.min_skips)),
            ),
            cause=(
                say(
                    "the loss scale has fallen to {scale:.2g} at step {step}, and steps are still "
                    "skipped: the overflow is in the forward pass, where no scale can help",
                    **values,
                )
                if sinking
                else say(
                    "{num} steps have been skipped since step {first}, although their loss scale "
                    "({scale:g} at step {step}) was no higher than one that had worked ({good:g}): "
                    "the gradients overflow for another reason",
                    **values,
                )
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


@dataclass(slots=True)
class _SkipTrack:
    """The state of one optimizer."""

    good: float = -math.inf  # the last scale at which a step was carried out
    count: int = 0  # steps since the first of those
    num: int = 0  # skips that the search does not explain
    first: int = -1
