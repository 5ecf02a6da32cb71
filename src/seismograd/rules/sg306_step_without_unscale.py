"""SG306 step-without-unscale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, flagged, integers, line_at
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import optimizer_name, own_text, owner_of, scaler_of
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_window import WindowEvent
from seismograd.diagnosis.loss_scale_rule import LossScaleRule
from seismograd.i18n import say
from seismograd.schema import EventFlag, EventKind, Evidence, Finding, StepFlag


@final
@dataclass
class StepWithoutUnscale(LossScaleRule):
    """The optimizer uses gradients that are still multiplied by the loss scale of mixed precision.

    What it finds
        Loops that scale the loss with a `GradScaler` and then call `optimizer.step()` themselves
        instead of `scaler.step(optimizer)`.

    Why it hurts
        The gradients are too large by a factor of the loss scale, 65,536 by default at the start.
        Plain SGD destroys the weights in the first step. Adam hides the factor, because it divides
        by the size of the gradients, but clipping, weight decay and its epsilon no longer work as
        intended; and no step is skipped when a gradient is infinite, so the first overflow ends in
        NaN.

    How it decides
        {num_steps} step is enough in which the gradients of the optimizer had been multiplied by a
        loss scale and nothing had divided them again: no `scaler.step`, no `scaler.unscale_`, no
        fused optimizer that does so itself, and no change by hand.

    False alarms
        None known. A scale of one changes nothing and does not count.

    What to try
        - Replace `optimizer.step()` with `scaler.step(optimizer)` and `scaler.update()`.
        - If you have to call the step directly, call `scaler.unscale_(optimizer)` before it, and
          check for infinities yourself.
        - With bfloat16 no loss scaling is needed: remove the scaler.

    References
        - PyTorch documentation, torch.amp: gradient scaling.
        - Micikevicius et al. (2018), Mixed precision training.
    """

    code: ClassVar[str] = "SG306"
    name: ClassVar[str] = "step-without-unscale"
    severity: ClassVar[str] = "error"
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG101",
        "SG102",
        "SG103",
        "SG104",
        "SG107",
        "SG201",
        "SG202",
        "SG305",
        "SG501",
    )
    kind: ClassVar[EventKind] = EventKind.STEP

    num_steps: int = 1

    @property
    def enough(self) -> int:
        return self.num_steps

    def have_fault(self, block: SharedBlock) -> BoolArray:
        does_it_itself = flagged(block.events, EventFlag.FUSED | EventFlag.CLOSURE)
        odd = flagged(block.steps, StepFlag.SKIPPED | StepFlag.CHANGED | StepFlag.NO_BACKWARD)
        rows = np.searchsorted(
            integers(block.steps, "iteration"), integers(block.events, "iteration")
        )
        return ~does_it_itself & ~odd[np.minimum(rows, len(block) - 1)]

    def describe(self, block: SharedBlock, call: WindowEvent, shown: FaultSteps) -> Finding:
        optimizer, where = optimizer_name(block, call.optimizer), line_at(block, call.site)
        scaler = scaler_of(block)
        stepped = owner_of(own_text(block, call.site, "optimizer.step()"), "step")
        return self.finding(
            say(
                "{optimizer}.step() at {step} uses gradients that are still multiplied by the loss "
                "scale {scale:g}: nothing has divided them by it since the backward pass",
                optimizer=optimizer,
                step=where or "?",
                scale=call.scale,
            ),
            say(
                "let the scaler take the step: it divides the gradients, and skips the step if a "
                "gradient is not finite"
            ),
            f"{scaler}.step({stepped or optimizer})\n{scaler}.update()",
            optimizer=call.optimizer,
            first_step=shown.first,
            last_step=call.iteration,
            evidence=(Evidence("scale", "", call.iteration, call.scale, 1.0),),
            where=where,
        )
