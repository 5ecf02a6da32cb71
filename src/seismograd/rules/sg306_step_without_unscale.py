"""SG306 step-without-unscale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, line_at, num_unheard, numbers, unheard
from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.script_names import optimizer_name, own_text, owner_of, scaler_of
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, EventKind, Evidence, Finding, RowBatch, StepFlag


@final
@dataclass
class StepWithoutUnscale(Rule):
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
    needs: ClassVar[tuple[str, ...]] = ()
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

    num_steps: int = 1

    _num_rows: int = field(default=0, init=False, repr=False)
    _num_unheard: int = field(default=0, init=False, repr=False)
    _repeated: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._repeated = RepeatedFault(self.num_steps, self.num_steps, 0.0)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        self._num_unheard += num_unheard(block)
        if not (block.events["scale"] != 1).any():
            return ()
        scale, flags = numbers(block.events, "scale"), integers(block.events, "flags")
        itself = (flags & int(EventFlag.FUSED | EventFlag.CLOSURE)) != 0
        scaled = (
            (integers(block.events, "kind") == EventKind.STEP)
            & (scale != 1)
            & np.isfinite(scale)
            & ~itself
        )
        positions = np.flatnonzero(scaled)
        if len(positions):
            rows = np.searchsorted(
                integers(block.steps, "iteration"), integers(block.events, "iteration")[positions]
            )
            row_flags = integers(block.steps, "flags")[np.minimum(rows, len(block) - 1)]
            for position in as_list(
                positions[
                    (row_flags & int(StepFlag.SKIPPED | StepFlag.CHANGED | StepFlag.NO_BACKWARD))
                    == 0
                ]
            ):
                self._repeated.add_event(
                    block,
                    position,
                    lambda shown, position=position: self._finding(block, position, shown),
                )
        return self._repeated.take()

    def shortfall(self) -> Message | None:
        if self._num_rows - self._num_unheard < self.num_steps <= self._num_rows:
            return unheard(self._num_unheard)
        return (
            None
            if self._num_rows >= self.num_steps
            else say("needs {needed} step, has {has}", needed=self.num_steps, has=self._num_rows)
        )

    def _finding(self, block: RowBatch, position: int, shown: FaultSteps) -> Finding:
        step = block.events[position]
        number, iteration, site, scale = (
            int(step["optimizer"]),
            int(step["iteration"]),
            int(step["site"]),
            float(step["scale"]),
        )
        optimizer = optimizer_name(block, number)
        where = line_at(block, site)
        scaler = scaler_of(block)
        stepped = owner_of(own_text(block, site, "optimizer.step()"), "step")
        return self.finding(
            optimizer=number,
            first_step=shown.first,
            last_step=iteration,
            evidence=(Evidence("scale", "", iteration, scale, 1.0),),
            cause=say(
                "{optimizer}.step() at {step} uses gradients that are still multiplied by the loss "
                "scale {scale:g}: nothing has divided them by it since the backward pass",
                optimizer=optimizer,
                step=where or "?",
                scale=scale,
            ),
            advice=say(
                "let the scaler take the step: it divides the gradients, and skips the step if a "
                "gradient is not finite"
            ),
            where=where,
            excerpt=f"{scaler}.step({stepped or optimizer})\n{scaler}.update()",
        )
