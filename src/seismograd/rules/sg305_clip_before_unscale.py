"""SG305 clip-before-unscale."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, line_at, num_unheard, numbers, unheard
from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.script_names import clip_of, optimizer_name, own_text, scaler_step
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, EventKind, Evidence, Finding, RowBatch


@final
@dataclass
class ClipBeforeUnscale(Rule):
    """Gradients are clipped while they are still multiplied by the loss scale of mixed precision.

    What it finds
        Mixed-precision loops that clip between `scaler.scale(loss).backward()` and
        `scaler.step(optimizer)` without calling `scaler.unscale_`.

    Why it hurts
        The clip compares its limit with a norm that is too large by a factor of the loss scale,
        65,536 by default at the start. So it clips at every step, and after `scaler.step` has
        divided by the scale, almost nothing is left: a limit of 1 has become one of 0.00002.
        Training is extremely slow, without any error, and gradients look healthy wherever else they
        are measured.

    How it decides
        A clip counts if the gradients of the optimizer were multiplied by a loss scale at that
        moment, while the limit is meant for unscaled gradients: at most {max_limit:g}, or less than
        {max_share:g} of the scale. The rule reports {num_clips} such clips.

    False alarms
        A limit that the script itself multiplies by the scale is correct and is not reported,
        unless both are very small.

    What to try
        - Call `scaler.unscale_(optimizer)` once, right before the clip; `scaler.step` then does not
          divide again.
        - With gradient accumulation, call it once per step, after the last backward pass.

    References
        - PyTorch documentation, Automatic mixed precision examples: working with unscaled
          gradients.
        - Micikevicius et al. (2018), Mixed precision training.
    """

    code: ClassVar[str] = "SG305"
    name: ClassVar[str] = "clip-before-unscale"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG105", "SG106", "SG108", "SG501")

    max_limit: float = 10.0
    max_share: float = 0.01  # of the scale
    num_clips: int = 2

    _num_clips: int = field(default=0, init=False, repr=False)
    _num_rows: int = field(default=0, init=False, repr=False)
    _num_unheard: int = field(default=0, init=False, repr=False)
    _repeated: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._repeated = RepeatedFault(self.num_clips, self.num_clips, 0.0)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        self._num_unheard += num_unheard(block)
        if not (block.events["scale"] != 1).any():
            return ()
        scale, limit = numbers(block.events, "scale"), numbers(block.events, "limit")
        over = integers(block.events, "flags") & int(EventFlag.USED | EventFlag.EMPTY)
        scaled = (
            (integers(block.events, "kind") == EventKind.CLIP)
            & (scale > 1)
            & np.isfinite(scale)
            & (over == 0)
        )
        for position in as_list(
            np.flatnonzero(scaled & ((limit <= self.max_limit) | (limit < self.max_share * scale)))
        ):
            self._repeated.add_event(
                block,
                position,
                lambda shown, position=position: self._finding(block, position, shown),
            )
        return self._repeated.take()

    def shortfall(self) -> Message | None:
        if self._num_rows - self._num_unheard < self.num_clips <= self._num_rows:
            return unheard(self._num_unheard)
        return (
            None
            if self._num_rows >= self.num_clips
            else say("needs {needed} steps, has {has}", needed=self.num_clips, has=self._num_rows)
        )

    def _finding(self, block: RowBatch, position: int, shown: FaultSteps) -> Finding:
        clip = block.events[position]
        number, iteration, site = int(clip["optimizer"]), int(clip["iteration"]), int(clip["site"])
        scale, limit, norm = (float(clip[name]) for name in ("scale", "limit", "value"))
        optimizer = optimizer_name(block, number)
        where = line_at(block, site)
        values: dict[str, str | int | float] = {
            "clip": where or "?",
            "scale": scale,
            "scaled": f"{norm:.3g}",
            "norm": f"{norm / scale:.3g}",
            "limit": limit,
            "effective": f"{limit / scale:.2g}",
        }
        evidence = [Evidence("scale", "", iteration, scale, 1.0)]
        if math.isfinite(norm):
            evidence.append(Evidence("clip_norm", "", iteration, norm / scale, limit))
        return self.finding(
            optimizer=number,
            first_step=shown.first,
            last_step=iteration,
            evidence=tuple(evidence),
            cause=say(
                "the clip at {clip} is applied to gradients that are still multiplied by the loss "
                "scale {scale:g}: it sees a norm of {scaled}, while the true norm is {norm}; after "
                "division by the scale, the limit of {limit:g} is effectively {effective}",
                **values,
            )
            if math.isfinite(norm)
            else say(
                "the clip at {clip} is applied to gradients that are still multiplied by the loss "
                "scale {scale:g}: after division by the scale, the limit of {limit:g} is "
                "effectively {effective}",
                **values,
            ),
            advice=say(
                "call scaler.unscale_({optimizer}) right before the clip", optimizer=optimizer
            ),
            where=where,
            excerpt=scaler_step(block, iteration, number).replace(".step(", ".unscale_(")
            + "\n"
            + own_text(block, site, clip_of(block, number, int(clip["detail"]), limit)),
        )
