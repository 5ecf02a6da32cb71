"""SG308 partial-window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.accumulation_loop import AccumulationLoop, PendingFinding
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import at_line, line_of, optimizer_name, own_call, owner_of
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_window import StepWindow, WindowEvent
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, Note


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
        counts only once training has continued after it. If the graph does not show the division,
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

    _loops: dict[int, AccumulationLoop] = field(
        default_factory=dict[int, AccumulationLoop], init=False, repr=False
    )
    _tail: Note | None = field(default=None, init=False, repr=False)
    _epochs: Fact | None = field(default=None, init=False, repr=False)

    def look(self, block: SharedBlock, window: StepWindow) -> None:
        micro_batches = window.micro_batches()
        if not micro_batches or not all(math.isfinite(each.value) for each in micro_batches):
            return
        loop = self._loops.setdefault(window.optimizer, AccumulationLoop())
        self._confirm(window.optimizer, loop, len(micro_batches))
        self._judge(block, window, loop, micro_batches)
        loop.add(len(micro_batches), self.min_whole)
        loop.where = line_of(block, micro_batches[0])

    def hear(self, note: Note) -> Iterable[Finding]:
        if note.kind == "tail":
            self._tail = note
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.EPOCHS:
            self._epochs = fact
        return ()

    def finish(self) -> Iterable[Finding]:
        note = self._tail
        loop = None if note is None else self._loops.get(note.optimizer)
        if note is None or loop is None or self._repeated.has_found(note.optimizer):
            return ()
        return (
            [self._left(note, loop)]
            if note.where == loop.where and (0 < note.count < loop.whole)
            else ()
        )

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_whole + 1)

    def _confirm(self, optimizer: int, loop: AccumulationLoop, num: int) -> None:
        """Report what waited to see how the training goes on."""
        for each in loop.confirmed(num):
            self._repeated.add_at(
                optimizer,
                each.index,
                each.finding.first_step,
                lambda _, finding=each.finding: finding,
            )

    def _judge(
        self,
        block: SharedBlock,
        window: StepWindow,
        loop: AccumulationLoop,
        micro_batches: tuple[WindowEvent, ...],
    ) -> None:
        num, divisor, whole = len(micro_batches), self._divisor(micro_batches), loop.whole
        left = self._left_over(window, micro_batches[0].site)
        loop.num_windows += 1
        if left:
            loop.num_cleared += 1
            if left < whole and loop.num_cleared <= self.max_share * loop.num_windows:
                self.at_fault(self._thrown_away, block, window, left, whole)
        if divisor is None:
            if loop.is_regular() and whole < num < 2 * whole:
                leaked = self._leaked(block, window, None, num, whole)
                loop.waiting.append(PendingFinding(window.index, whole, leaked))
        elif divisor > num and whole in (0, divisor):
            short = self._short(block, window, micro_batches, divisor)
            waiting = PendingFinding(window.index, 0, short, divisor)
            loop.waiting = [*loop.waiting[-self.min_whole :], waiting]
        elif divisor < num < 2 * divisor and divisor == whole:
            self.at_fault(self._leaked, block, window, num, whole, num / whole)

    def _divisor(self, micro_batches: tuple[WindowEvent, ...]) -> int | None:
        """Return the divisor of each of these mean losses; `None`: none, different ones, or not
        known.
        """
        totals = [each.total for each in micro_batches]
        if not all(0 < total <= 0.75 for total in totals) or max(totals) > min(totals) * (
            1 + self.tolerance
        ):
            return None
        divisor = round(1 / totals[0])
        return divisor if math.isclose(divisor * totals[0], 1.0, rel_tol=self.tolerance) else None

    def _left_over(self, window: StepWindow, site: int) -> int:
        """Return how many micro-batches of this line were cleared unused before the window, for no
        visible reason.
        """
        thrown = [each for group in window.thrown for each in group.unused]
        values = [*(clip.call.value for clip in window.clips), *(each.value for each in thrown)]
        return sum(each.site == site for each in thrown) if all(map(math.isfinite, values)) else 0

    def _thrown_away(
        self, block: SharedBlock, window: StepWindow, shown: FaultSteps, left: int, whole: int
    ) -> Finding:
        by, optimizer = window.thrown[-1].by, optimizer_name(block, window.optimizer)
        cause = say(
            "zero_grad at {clear} cleared gradients that no step had used: {left} of the {whole} "
            "micro-batches that make up a step of {optimizer:the} were discarded",
            clear=at_line(block, by),
            left=left,
            whole=whole,
            optimizer=optimizer,
        )
        return self.finding(
            optimizer=window.optimizer,
            first_step=window.iteration,
            evidence=(Evidence("cleared_backwards", "", shown.first, float(left), 0.0),),
            cause=cause,
            advice=_flush(),
            where=line_of(block, by),
            excerpt=_excerpt(block, window),
        )

    def _leaked(
        self,
        block: SharedBlock,
        window: StepWindow,
        _: FaultSteps | None,
        num: int,
        whole: int,
        weight: float | None = None,
    ) -> Finding:
        optimizer = optimizer_name(block, window.optimizer)
        return self.finding(
            optimizer=window.optimizer,
            first_step=window.iteration,
            evidence=(
                Evidence("num_backwards", "", window.iteration, float(num), float(whole))
                if weight is None
                else Evidence("loss_weight", "", window.iteration, weight, 1.0),
            ),
            cause=say(
                "the step of {optimizer:the} at {step} used {num} micro-batches, while all other "
                "steps use {whole}: the remainder from before ({left}) leaked into it",
                optimizer=optimizer,
                step=at_line(block, window.step),
                num=num,
                whole=whole,
                left=num - whole,
            ),
            advice=_flush(),
            where=line_of(block, window.step),
            excerpt=_excerpt(block, window),
        )

    def _short(
        self,
        block: SharedBlock,
        window: StepWindow,
        micro_batches: tuple[WindowEvent, ...],
        divisor: int,
    ) -> Finding:
        num = len(micro_batches)
        return self.finding(
            optimizer=window.optimizer,
            first_step=window.iteration,
            evidence=(Evidence("loss_weight", "", window.iteration, num / divisor, 1.0),),
            cause=say(
                "the step of {optimizer:the} at {step} used {num} of {divisor} micro-batches, but "
                "backward at {backward} still divides each loss by {divisor}: the gradient is "
                "{num}/{divisor} of what it should be",
                optimizer=optimizer_name(block, window.optimizer),
                step=at_line(block, window.step),
                num=num,
                backward=at_line(block, micro_batches[0]),
                divisor=divisor,
            ),
            advice=say("divide by the number of micro-batches that the window actually has"),
            where=line_of(block, window.step),
            excerpt=f"(loss / {num}).backward()  # in a window of {num}, instead of / {divisor}",
        )

    def _left(self, note: Note, loop: AccumulationLoop) -> Finding:
        """Return the finding about micro-batches at the end of the program."""
        epochs, step = self._epochs, max(note.iteration - 1, 0)
        values: dict[str, str | int | float] = {"count": note.count, "whole": loop.whole}
        per_epoch = math.nan if epochs is None else epochs.number("per_epoch")
        is_of_epoch = (
            epochs is not None
            and epochs.number("epochs") == 1
            and per_epoch % loop.whole == note.count
        )
        return self.finding(
            severity=self.severity if is_of_epoch else "info",
            optimizer=note.optimizer,
            first_step=step,
            evidence=(Evidence("num_backwards", "", step, float(note.count), float(loop.whole)),),
            cause=say(
                "the epoch has {batches} batches, and each step uses {whole}: no step uses the "
                "gradients of the last {count}, and every epoch would lose as many",
                batches=int(per_epoch),
                **values,
            )
            if is_of_epoch
            else say(
                "the program ended with micro-batches whose gradients no step used: {count} of the "
                "{whole} that make up a step",
                **values,
            ),
            advice=_flush(),
            where=note.where,
        )


def _flush() -> Message:
    return say(
        "take a step at the end of each epoch with the remaining micro-batches, and divide their "
        "losses by how many there are"
    )


def _excerpt(block: SharedBlock, window: StepWindow) -> str:
    step = own_call(block, window.step, f"{optimizer_name(block, window.optimizer)}.step()")
    optimizer = owner_of(step, "step") or optimizer_name(block, window.optimizer)
    return (
        f"{step}  # once more after the loop over the batches, for the remainder\n"
        f"{optimizer}.zero_grad()"
    )
