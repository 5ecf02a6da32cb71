"""SG304 clip-without-effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import clip_of
from seismograd.analysis.step_window import StepWindow, WindowClip
from seismograd.diagnosis.rule import memory
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Values, say
from seismograd.schema import EventFlag, Finding, StepFlag


@final
@dataclass
class ClipWithoutEffect(WindowRule):
    """Gradients are clipped after step has used them or before backward has computed them.

    What it finds
        Clipping at the wrong place in the loop, so that the optimizer never gets a clipped
        gradient: after `step`, before `backward`, or on parameters that no optimizer holds.

    Why it hurts
        The program looks as if it were protected against large gradients, but it is not. One bad
        batch affects the weights at full size. The norm that the call returns, and that is logged,
        is that of an old gradient, or 0.

    How it decides
        The rule checks the order of the calls. A step counts if, since the step before, a clip was
        called while the gradients of its optimizer had already been used or did not exist yet, and
        no clip was called after the last backward pass. The rule reports {in_a_row} such steps in a
        row, or {scattered} if they are at least {share:.0%} of all steps. A limit of {max_limit:g}
        or more is meant only to measure the norm, and does not count.

    False alarms
        Clipping the gradients of another model does not count. A second clip, for instance to log
        the norm after the step, does no harm if another one takes effect, and is not reported.

    What to try
        - Keep the order `backward`, `clip_grad_norm_`, `step`.
        - With `GradScaler`: `backward`, `scaler.unscale_(optimizer)`, `clip_grad_norm_`,
          `scaler.step(optimizer)`.
        - Pass to `clip_grad_norm_` the parameters that the optimizer holds. `model.parameters()`
          stored in a variable is a generator: it is empty when used a second time.

    References
        - PyTorch documentation, torch.nn.utils.clip_grad_norm_.
        - Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.
    """

    code: ClassVar[str] = "SG304"
    name: ClassVar[str] = "clip-without-effect"
    severity: ClassVar[str] = "error"
    absorbs: ClassVar[tuple[str, ...]] = ("SG102", "SG103", "SG107", "SG201", "SG202")

    in_a_row: int = 2  # steps
    scattered: int = 4  # steps
    share: float = 0.25  # of the optimizer's steps
    max_limit: float = 1e6

    # by optimizer, the iteration of the first such clip: what goes wrong from its step on is
    # explained by it
    _first: dict[int, int] = memory(dict[int, int])

    def look(self, window: StepWindow) -> None:
        if window.flags & (StepFlag.SKIPPED | StepFlag.NO_BACKWARD) or not window.backwards:
            return
        late = [clip for clip in window.clips if clip.late and clip.call.limit < self.max_limit]
        works = any(
            not clip.late and clip.num_before == len(window.backwards) for clip in window.clips
        )
        if late and not works:
            self._first.setdefault(window.optimizer, late[0].call.iteration)
            self.at_fault(window, self._finding, late[-1])

    def _finding(self, window: StepWindow, shown: FaultSteps, clip: WindowClip) -> Finding:
        call, applied = clip.call, window.number("applied_norm")
        values: Values = {
            "clip": window.at(call),
            "backward": window.at(window.backwards[-1]),
            "step": window.at(window.step),
            "optimizer": window.name,
            "limit": call.limit,
            "applied": f"{applied:.3g}",
        }
        advice = say(
            "move the clip from {clip} to between backward at {backward} and step at {step}",
            **values,
        )
        if not call.touched:
            cause = say(
                "the clip at {clip} is applied to gradients that no optimizer holds, or to none: "
                "{optimizer}.step() at {step} uses an unclipped gradient of norm {applied}",
                **values,
            )
            advice = say(
                "pass the parameters of the model being trained to the clip, and get them again "
                "for each call"
            )
        elif call.flags & EventFlag.USED:
            cause = say(
                "the clip at {clip} comes after {optimizer}.step() at {step} has already used the "
                "gradient, whose norm was {applied}: the limit of {limit:g} has no effect",
                **values,
            )
        else:
            cause = say(
                "the clip at {clip} comes before backward at {backward} has computed a gradient, "
                "so the limit of {limit:g} has no effect: {optimizer}.step() at {step} uses a "
                "gradient of norm {applied}",
                **values,
            )
        clip_here = clip_of(window.block, window.optimizer, call.detail, call.limit)
        lines = (
            window.text(window.backwards[-1], "loss.backward()"),
            window.text(call, clip_here) if call.touched else clip_here,
            window.text(window.step, f"{window.name}.step()"),
        )
        return self.finding_of_window(
            window,
            cause,
            advice,
            "\n".join(lines),
            evidence=(window.evidence("applied_norm", applied, call.limit),),
            at=call,
            since=min(shown.first, self._first[window.optimizer]),
        )
