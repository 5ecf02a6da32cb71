"""SG308 partial-window."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.accumulation_loop import AccumulationLoop
from seismograd.analysis.framework_advice import closes_windows
from seismograd.analysis.micro_batches import MicroBatches
from seismograd.analysis.program_end import ProgramEnd
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.step_window import StepWindow
from seismograd.diagnosis.rule import memory, per_optimizer
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, Values, mark, say
from seismograd.schema import Evidence, Fact, Finding, Note

FLUSH = mark(
    "take a step at the end of each epoch with the remaining micro-batches, and divide their "
    "losses by how many there are"
)


@final
@dataclass
class PartialWindow(WindowRule):
    """The last micro-batches of an epoch, too few for a full step, are discarded, leak into the
    next epoch, or get too little weight.

    What it finds
        Gradient accumulation where the number of micro-batches per step does not divide the number
        of batches in an epoch, and the loop does not handle the remainder. The remaining gradients
        are cleared before any step uses them, or added to the first step of the next epoch, or used
        in a step whose losses are still divided by the number of micro-batches in a full window.
        The rule also finds a first window that is too short because counting starts at the wrong
        number.

    Why it hurts
        Discarded gradients are wasted computation, and if the sampler does not shuffle, the model
        never learns from these samples. Gradients that leak make one step of each epoch larger, and
        they were computed with weights that have changed since. Losses with too little weight make
        one step of each epoch smaller.

    How it decides
        A full window is the number of micro-batches, all from one line, that {min_whole} steps in a
        row had. A remainder is what fewer backward passes added and `zero_grad` cleared before any
        step used it, in no more than {max_share:.0%} of the steps. A step is too large or too small
        if it has more or fewer micro-batches than a full window while each loss is still divided by
        the full number (within {tolerance:.0%}), which the graph of the loss shows; a small one
        counts only once training has continued after it, and is only information where a framework
        such as Lightning, Trainer or Accelerate divides the losses and ends the window with the
        epoch. If the graph does not show the division,
        only steps with more micro-batches count, and only between full windows of a loop that
        otherwise has nothing but full windows.

    False alarms
        A remainder at the end of the program is reported as info, because it happens at most once;
        only if the program trains a single epoch of a DataLoader, whose batches do not fill the
        windows, is it a warning, because each epoch would lose it. A short last window whose losses
        are divided by its own size is correct, and so is clearing after a loss that is not finite.

    What to try
        - Step at the end of each epoch as well: `if (i + 1) % k == 0 or i + 1 == len(loader)`, and
          divide by the size of that window.
        - Or count across epochs instead of restarting in each, and clear only where `step` is
          called.
        - Or drop what does not fill a window: use `itertools.islice`, or a `BatchSampler` that
          yields full windows only.

    References
        - Hugging Face Accelerate documentation, Performing gradient accumulation.
        - PyTorch documentation, torch.utils.data.DataLoader: drop_last.
    """

    code: ClassVar[str] = "SG308"
    name: ClassVar[str] = "partial-window"
    severity: ClassVar[str] = "warning"

    min_whole: int = 2  # steps
    max_share: float = 1 / 3  # of the optimizer's steps
    tolerance: float = 0.05

    _loops: dict[int, AccumulationLoop] = per_optimizer(AccumulationLoop)
    _end: ProgramEnd = memory(ProgramEnd)

    def look(self, window: StepWindow) -> None:
        micro_batches = MicroBatches.of(window)
        if not len(micro_batches) or not micro_batches.are_finite:
            return
        loop, num = self._loops[window.optimizer], len(micro_batches)
        for each in loop.confirmed(num):
            self._repeated.add_finding(each.index, each.finding)
        self._judge(window, loop, micro_batches)
        loop.add(num, self.min_whole)
        loop.where = window.line(micro_batches.first)

    def read_note(self, note: Note) -> Iterable[Finding]:
        self._end.read_note(note)
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._end.learn(fact)
        return ()

    def finish(self) -> Iterable[Finding]:
        note = self._end.unused(self._loops)
        if note is None or note.optimizer in self.found:
            return ()
        loop = self._loops[note.optimizer]
        if self._clears_on_purpose(loop):  # as before its other steps
            return ()
        whole, step = loop.whole, max(note.iteration - 1, 0)
        left = self.finding(
            self._end.cause(note.count, whole),
            Message(FLUSH),
            severity=self.severity if self._end.is_of_epoch(note.count, whole) else "info",
            optimizer=note.optimizer,
            first_step=step,
            evidence=(Evidence("num_backwards", "", step, float(note.count), float(whole)),),
            where=note.where,
        )
        return (left,)

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_whole + 1)

    def _judge(
        self, window: StepWindow, loop: AccumulationLoop, micro_batches: MicroBatches
    ) -> None:
        num, whole, divisor = len(micro_batches), loop.whole, micro_batches.divisor(self.tolerance)
        left = _left_over(window, micro_batches.first.site)
        loop.num_windows += 1
        if left:
            loop.num_cleared += 1
            if left < whole and not self._clears_on_purpose(loop):
                self.at_fault(window, self._thrown_away, left, whole)
        if divisor is None:
            if loop.is_regular() and whole < num < 2 * whole:
                loop.wait(window, self._leaked(window, num, whole), num_after=whole)
        elif divisor > num and whole in (0, divisor):
            loop.waiting = loop.waiting[-self.min_whole :]
            loop.wait(window, self._short(window, micro_batches, divisor), whole=divisor)
        elif divisor < num < 2 * divisor and divisor == whole:
            leaked = self._leaked(window, num, whole, is_divided=True)
            self._repeated.add_finding(window.index, leaked)

    def _clears_on_purpose(self, loop: AccumulationLoop) -> bool:
        return loop.num_cleared > self.max_share * loop.num_windows

    def _thrown_away(self, window: StepWindow, shown: FaultSteps, left: int, whole: int) -> Finding:
        by, name = window.thrown[-1].by, window.name
        values: Values = {"clear": window.at(by), "left": left, "whole": whole, "optimizer": name}
        return self.finding_of_window(
            window,
            say(
                "zero_grad at {clear} cleared gradients that no step had used: {left} of the "
                "{whole} micro-batches that make up a step of {optimizer:the} {left:was|were} "
                "discarded",
                **values,
            ),
            Message(FLUSH),
            _excerpt(window),
            evidence=(Evidence("cleared_backwards", "", shown.first, float(left), 0.0),),
            at=by,
        )

    def _leaked(
        self, window: StepWindow, num: int, whole: int, *, is_divided: bool = False
    ) -> Finding:
        evidence = window.evidence("num_backwards", num, whole)
        if is_divided:
            evidence = window.evidence("loss_weight", num / whole, 1.0)
        return self.finding_of_window(
            window,
            say(
                "the step of {optimizer:the} at {step} used {num} micro-batches, while all other "
                "steps use {whole}: the remainder from before ({left}) leaked into it",
                optimizer=window.name,
                step=window.at(window.step),
                num=num,
                whole=whole,
                left=num - whole,
            ),
            Message(FLUSH),
            _excerpt(window),
            evidence=(evidence,),
        )

    def _short(self, window: StepWindow, micro_batches: MicroBatches, divisor: int) -> Finding:
        num, by_framework = len(micro_batches), closes_windows(window, micro_batches)
        divided = f"{_divided(window, micro_batches, num)}  # in a window of {num}, not / {divisor}"
        return self.finding_of_window(
            window,
            say(
                "the step of {optimizer:the} at {step} used {num} of {divisor} micro-batches, but "
                "backward at {backward} still divides each loss by {divisor}: the gradient is "
                "{num}/{divisor} of what it should be",
                optimizer=window.name,
                step=window.at(window.step),
                num=num,
                backward=window.at(micro_batches.first),
                divisor=divisor,
            ),
            say(
                "the framework ends a window with each epoch: let the number of batches be a "
                "multiple of {divisor}, if this step is to count as much as the others",
                divisor=divisor,
            )
            if by_framework
            else say("divide by the number of micro-batches that the window actually has"),
            "" if by_framework else divided,
            evidence=(window.evidence("loss_weight", num / divisor, 1.0),),
            severity="info" if by_framework else None,
        )


def _left_over(window: StepWindow, site: int) -> int:
    """Return how many micro-batches of this line were cleared unused before the window, for no
    visible reason.
    """
    losses = [each.value for each in window.unused]
    if not all(map(math.isfinite, [*losses, *(clip.call.value for clip in window.clips)])):
        return 0
    return sum(each.site == site for each in window.unused)


def _excerpt(window: StepWindow) -> str:
    step = window.text(window.step, f"{window.name}.step()")
    return (
        f"{step}  # once more after the loop over the batches, for the remainder\n"
        f"{window.optimizer_text}.zero_grad()"
    )


def _divided(window: StepWindow, micro_batches: MicroBatches, num: int) -> str:
    """Return the backward with a loss that is divided by `num`, as the script writes it."""
    text = window.text(micro_batches.first, "(loss / 1).backward()")
    return re.sub(r"/ *[\w.]+(?=\))", f"/ {num}", text, count=1)
