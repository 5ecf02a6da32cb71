"""SG305 clip-before-unscale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.block_rows import BoolArray, flagged, line_at, numbers
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import clip_of, optimizer_name, own_text, scaler_step
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_window import WindowEvent
from seismograd.diagnosis.loss_scale_rule import LossScaleRule
from seismograd.i18n import Values, say
from seismograd.schema import EventFlag, EventKind, Evidence, Finding


@final
@dataclass
class ClipBeforeUnscale(LossScaleRule):
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
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG105", "SG106", "SG108", "SG501")
    kind: ClassVar[EventKind] = EventKind.CLIP

    max_limit: float = 10.0
    max_share: float = 0.01  # of the scale
    num_clips: int = 2

    @property
    def enough(self) -> int:
        return self.num_clips

    def have_fault(self, block: SharedBlock) -> BoolArray:
        scale, limit = numbers(block.events, "scale"), numbers(block.events, "limit")
        is_for_unscaled = (limit <= self.max_limit) | (limit < self.max_share * scale)
        is_over = flagged(block.events, EventFlag.USED | EventFlag.EMPTY)
        return (scale > 1) & is_for_unscaled & ~is_over

    def describe(self, block: SharedBlock, call: WindowEvent, shown: FaultSteps) -> Finding:
        optimizer, where = optimizer_name(block, call.optimizer), line_at(block, call.site)
        norm = call.value / call.scale
        values: Values = {
            "clip": where or "?",
            "scale": call.scale,
            "scaled": f"{call.value:.3g}",
            "norm": f"{norm:.3g}",
            "limit": call.limit,
            "effective": f"{call.limit / call.scale:.2g}",
        }
        if math.isfinite(norm):
            cause = say(
                "the clip at {clip} is applied to gradients that are still multiplied by the loss "
                "scale {scale:g}: it sees a norm of {scaled}, while the true norm is {norm}; after "
                "division by the scale, the limit of {limit:g} is effectively {effective}",
                **values,
            )
        else:
            cause = say(
                "the clip at {clip} is applied to gradients that are still multiplied by the loss "
                "scale {scale:g}: after division by the scale, the limit of {limit:g} is "
                "effectively {effective}",
                **values,
            )
        scale_now = Evidence("scale", "", call.iteration, call.scale, 1.0)
        step = scaler_step(block, call.iteration, call.optimizer)
        unscaled = step.replace(".step(", ".unscale_(")
        clip = clip_of(block, call.optimizer, call.detail, call.limit)
        norm_now = Evidence("clip_norm", "", call.iteration, norm, call.limit)
        return self.finding(
            cause,
            say("call scaler.unscale_({optimizer}) right before the clip", optimizer=optimizer),
            f"{unscaled}\n{own_text(block, call.site, clip)}",
            optimizer=call.optimizer,
            first_step=shown.first,
            last_step=call.iteration,
            evidence=(scale_now, norm_now) if math.isfinite(norm) else (scale_now,),
            where=where,
        )
