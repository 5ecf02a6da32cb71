"""SG304 clip-without-effect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.block_rows import numbers
from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.script_names import at_line, clip_of, line_of, optimizer_name
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.windows import StepWindow, WindowClip, WindowReader
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, Evidence, Finding, RowBatch, StepFlag


@final
@dataclass
class ClipWithoutEffect(Rule):
    """Gradients are clipped after the step has used them, or before backward has computed them.

    What it finds
        Clipping at the wrong place of the loop, so that the optimizer never sees a clipped
        gradient: after `step`, before `backward`, or of parameters that no optimizer holds.

    Why it hurts
        The program looks as if it were protected against large gradients, and is not. One bad batch
        goes into the weights at its full size. The norm that the call returns, and that is logged,
        is that of an old gradient or 0.

    How it decides
        From the order of the calls. A step counts when a clip was called since the step before
        while the gradients of its optimizer had already been used or did not exist yet, and none
        after the last backward pass. It is found when {in_a_row} steps in a row show it, or
        {scattered} that are at least {share:.0%} of all. A limit of {max_limit:g} or more only
        measures the norm, and does not count.

    False alarms
        Clips of the gradients of another model are not held against this one. A second clip, for
        instance to log the norm after the step, does no harm beside the one that works, and is not
        reported.

    What to try
        - Keep the order `backward`, `clip_grad_norm_`, `step`.
        - With `GradScaler`: `backward`, `scaler.unscale_(optimizer)`, `clip_grad_norm_`,
          `scaler.step(optimizer)`.
        - Give `clip_grad_norm_` the parameters that the optimizer holds. `model.parameters()` kept
          in a variable is a generator: it is empty when it is used for the second time.

    References
        - PyTorch documentation, torch.nn.utils.clip_grad_norm_.
        - Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.
    """

    code: ClassVar[str] = "SG304"
    name: ClassVar[str] = "clip-without-effect"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG102", "SG103", "SG107", "SG201", "SG202")

    in_a_row: int = 2  # steps
    scattered: int = 4  # steps
    share: float = 0.25  # of the optimizer's steps
    max_limit: float = 1e6

    _windows: WindowReader = field(default_factory=WindowReader, init=False, repr=False)
    _repeated: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._repeated = RepeatedFault(self.in_a_row, self.scattered, self.share)

    def read_with(self, readers: SharedReaders) -> None:
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for window in block.read_by(self._windows):
            if window.flags & (StepFlag.SKIPPED | StepFlag.NO_BACKWARD) or not window.backwards:
                continue
            late = [clip for clip in window.clips if clip.late and clip.call.limit < self.max_limit]
            works = any(
                not clip.late and clip.num_before == len(window.backwards) for clip in window.clips
            )
            if late and not works:
                self._repeated.add(
                    window,
                    lambda shown, window=window, clip=late[-1]: self._finding(
                        block, window, clip, shown
                    ),
                )
        return self._repeated.take()

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.in_a_row)

    def _finding(
        self, block: RowBatch, window: StepWindow, clip: WindowClip, shown: FaultSteps
    ) -> Finding:
        optimizer, call = optimizer_name(block, window.optimizer), clip.call
        applied = float(numbers(block.steps, "applied_norm")[window.row])
        values: dict[str, str | int | float] = {
            "clip": at_line(block, call),
            "backward": at_line(block, window.backwards[-1]),
            "step": at_line(block, window.step),
            "optimizer": optimizer,
            "limit": call.limit,
            "applied": f"{applied:.3g}",
        }
        if not call.touched:
            cause = say(
                "the clip at {clip} is of gradients that no optimizer holds, or of none: "
                "{optimizer}.step() at {step} uses a gradient of "
                "norm {applied} as it is",
                **values,
            )
            advice = say(
                "give the clip the parameters of the model that is trained, afresh each time"
            )
        elif call.flags & EventFlag.USED:
            cause = say(
                "the clip at {clip} comes after {optimizer}.step() at {step} has already used the "
                "gradient, whose norm was {applied}: its "
                "limit of {limit:g} changes nothing",
                **values,
            )
            advice = say(
                "move the clip from {clip} to between backward at {backward} and step at {step}",
                **values,
            )
        else:
            cause = say(
                "the clip at {clip} comes before backward at {backward} has computed a gradient, "
                "so its limit of {limit:g} changes "
                "nothing: {optimizer}.step() at {step} uses a norm of {applied}",
                **values,
            )
            advice = say(
                "move the clip from {clip} to between backward at {backward} and step at {step}",
                **values,
            )
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=window.optimizer,
            first_step=shown.first,
            last_step=window.iteration,
            parameters=(),
            evidence=(Evidence("applied_norm", "", window.iteration, applied, call.limit),),
            cause=cause,
            advice=advice,
            where=line_of(block, call),
            excerpt=f"loss.backward()\n{clip_of(call.detail, call.limit)}\n{optimizer}.step()",
        )
