"""SG308 partial-window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.script_names import at_line, line_of, optimizer_name
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.windows import StepWindow, WindowEvent, WindowReader
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding, Note, RowBatch


@final
@dataclass
class PartialWindow(Rule):
    """The last micro-batches of an epoch, too few for a whole step, are thrown away, leak into the
    next epoch, or count too little.

    What it finds
        Gradient accumulation whose number of micro-batches does not divide the number of batches of
        an epoch, and that has no place for what is left over. It is cleared unused, or added to the
        first step of the next epoch, or stepped on while each loss is still divided by the number
        of a whole window. Also a first window that is short because the counting begins at the
        wrong number.

    Why it hurts
        What is thrown away was computed for nothing, and with a sampler that does not shuffle these
        samples are never learned from. What leaks makes one step of each epoch larger, and uses
        gradients of weights that have changed since. What counts too little makes one step of each
        epoch smaller.

    How it decides
        A whole window is the number of micro-batches, from one line, that {min_whole} steps in a
        row had. Left over is what fewer backward passes added and `zero_grad` cleared before any
        step used it, in no more than {max_share:.0%} of the steps. A step is too large or too small
        when it has more or fewer micro-batches than a whole window and each loss is divided by the
        whole number all the same (within {tolerance:.0%}), which the graph of the loss shows; a
        small one counts once training has gone on after it. Where the graph does not show it, only
        more micro-batches count, in steps between whole windows of a loop that otherwise has
        nothing but those.

    False alarms
        What is left when the program ends is a note and no warning, since it happens at most once.
        A short last window whose losses are divided by its own size is right, and so is clearing
        after a loss that is not finite.

    What to try
        - Step at the end of each epoch as well: `if (i + 1) % k == 0 or i + 1 == len(loader)`, and
          divide by the size of that window.
        - Or count steps over all epochs instead of within each, and clear only where `step` is
          called.
        - Or drop what does not fill a window: `itertools.islice`, or a `BatchSampler` of whole
          windows.

    References
        - Hugging Face Accelerate documentation, Performing gradient accumulation.
        - PyTorch documentation, torch.utils.data.DataLoader: drop_last.
    """

    code: ClassVar[str] = "SG308"
    name: ClassVar[str] = "partial-window"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()

    min_whole: int = 2  # steps
    max_share: float = 1 / 3  # of the optimizer's steps
    tolerance: float = 0.05

    _windows: WindowReader = field(default_factory=WindowReader, init=False, repr=False)
    _loops: dict[int, _AccumulationLoop] = field(
        default_factory=dict[int, "_AccumulationLoop"], init=False, repr=False
    )
    _repeated: RepeatedFault = field(
        default_factory=lambda: RepeatedFault(1, 1, 0.0), init=False, repr=False
    )

    def read_with(self, readers: SharedReaders) -> None:
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for window in block.read_by(self._windows):
            micro_batches = window.micro_batches()
            if not micro_batches or not all(math.isfinite(each.value) for each in micro_batches):
                continue
            loop = self._loops.setdefault(window.optimizer, _AccumulationLoop())
            self._confirm(window.optimizer, loop, len(micro_batches))
            self._look(block, window, loop, micro_batches)
            loop.add(len(micro_batches), self.min_whole)
            loop.where = line_of(block, micro_batches[0])
        return self._repeated.take()

    def hear(self, note: Note) -> Iterable[Finding]:
        loop = self._loops.get(note.optimizer)
        if note.kind != "tail" or loop is None or self._repeated.has_found(note.optimizer):
            return []
        if note.where != loop.where or not 0 < note.count < loop.whole:
            return []
        return [self._left_at_the_end(note, loop)]

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_whole + 1)

    def _confirm(self, optimizer: int, loop: _AccumulationLoop, num: int) -> None:
        """Say what waited to see how the training goes on."""
        if loop.whole:
            for each in loop.waiting:
                if each.whole in (0, loop.whole) and each.num_after in (0, num):
                    self._repeated.add_at(
                        optimizer,
                        each.index,
                        each.finding.first_step,
                        lambda _, finding=each.finding: finding,
                    )
            loop.waiting = []

    def _look(
        self,
        block: RowBatch,
        window: StepWindow,
        loop: _AccumulationLoop,
        micro_batches: tuple[WindowEvent, ...],
    ) -> None:
        num, divisor = len(micro_batches), self._divisor(micro_batches)
        left = self._left_over(window, micro_batches[0].site)
        loop.num_windows += 1
        if left:
            loop.num_cleared += 1
            if left < loop.whole and loop.num_cleared <= self.max_share * loop.num_windows:
                self._repeated.add(
                    window, lambda shown: self._thrown_away(block, window, loop, left, shown)
                )
        if divisor is None:
            if loop.is_regular() and loop.whole < num < 2 * loop.whole:
                loop.waiting.append(
                    _PendingFinding(
                        window.index,
                        loop.whole,
                        self._leaked(block, window, micro_batches, loop.whole, None),
                    )
                )
        elif divisor > num and loop.whole in (0, divisor):
            short = self._short(block, window, micro_batches, divisor)
            loop.waiting = [
                *loop.waiting[-self.min_whole :],
                _PendingFinding(window.index, 0, short, divisor),
            ]
        elif divisor < num < 2 * divisor and divisor == loop.whole:
            self._repeated.add(
                window,
                lambda _: self._leaked(block, window, micro_batches, loop.whole, num / loop.whole),
            )

    def _divisor(self, micro_batches: tuple[WindowEvent, ...]) -> int | None:
        """By what each of these mean losses is divided; `None`: by nothing, by different
        numbers, or not known.
        """
        totals = [each.total for each in micro_batches]
        if not all(0 < total <= 0.75 for total in totals) or max(totals) > min(totals) * (
            1 + self.tolerance
        ):
            return None
        divisor = round(1 / totals[0])
        return divisor if math.isclose(divisor * totals[0], 1.0, rel_tol=self.tolerance) else None

    def _left_over(self, window: StepWindow, site: int) -> int:
        """How many micro-batches of this line were cleared unused before the window, for no
        reason that shows.
        """
        thrown = [each for group in window.thrown for each in group.unused]
        refused = any(not math.isfinite(clip.call.value) for clip in window.clips) or any(
            not math.isfinite(each.value) for each in thrown
        )
        return 0 if refused else sum(each.site == site for each in thrown)

    def _thrown_away(
        self,
        block: RowBatch,
        window: StepWindow,
        loop: _AccumulationLoop,
        left: int,
        shown: FaultSteps,
    ) -> Finding:
        by = window.thrown[-1].by
        cause = say(
            "zero_grad at {clear} threw away gradients that no step had used: {left} of the "
            "{whole} micro-batches that make a step of "
            "{optimizer} were left over",
            clear=at_line(block, by),
            left=left,
            whole=loop.whole,
            optimizer=optimizer_name(block, window.optimizer),
        )
        return self._flush(
            block,
            window,
            line_of(block, by),
            Evidence("cleared_backwards", "", shown.first, float(left), 0.0),
            cause,
            loop,
        )

    def _leaked(
        self,
        block: RowBatch,
        window: StepWindow,
        micro_batches: tuple[WindowEvent, ...],
        whole: int,
        weight: float | None,
    ) -> Finding:
        num = len(micro_batches)
        cause = say(
            "the step of {optimizer} at {step} used {num} micro-batches where all others use "
            "{whole}: what was left over from before, "
            "{left} of them, leaked into it",
            optimizer=optimizer_name(block, window.optimizer),
            step=at_line(block, window.step),
            num=num,
            whole=whole,
            left=num - whole,
        )
        evidence = Evidence("num_backwards", "", window.iteration, float(num), float(whole))
        if weight is not None:
            evidence = Evidence("loss_weight", "", window.iteration, weight, 1.0)
        return self._flush(
            block, window, line_of(block, window.step), evidence, cause, _AccumulationLoop(whole)
        )

    def _flush(
        self,
        block: RowBatch,
        window: StepWindow,
        where: str,
        evidence: Evidence,
        cause: Message,
        loop: _AccumulationLoop,
    ) -> Finding:
        """What leaves micro-batches over should step on them."""
        optimizer = optimizer_name(block, window.optimizer)
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=window.optimizer,
            first_step=window.iteration,
            last_step=window.iteration,
            parameters=(),
            evidence=(evidence,),
            cause=cause,
            advice=say(
                "make a step of what is left at the end of each epoch, its losses divided by "
                "their own number",
                optimizer=optimizer,
            ),
            where=where,
            excerpt=f"if (i + 1) % {loop.whole} == 0 or i + 1 == len(loader):\n    "
            f"{optimizer}.step()\n    {optimizer}.zero_grad()",
        )

    def _short(
        self,
        block: RowBatch,
        window: StepWindow,
        micro_batches: tuple[WindowEvent, ...],
        divisor: int,
    ) -> Finding:
        num, first = len(micro_batches), micro_batches[0]
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=window.optimizer,
            first_step=window.iteration,
            last_step=window.iteration,
            parameters=(),
            evidence=(Evidence("loss_weight", "", window.iteration, num / divisor, 1.0),),
            cause=say(
                "the step of {optimizer} at {step} used {num} of {divisor} micro-batches, but "
                "backward at {backward} divides each loss by "
                "{divisor} all the same: this step is {num}/{divisor} of what it should be",
                optimizer=optimizer_name(block, window.optimizer),
                step=at_line(block, window.step),
                num=num,
                backward=at_line(block, first),
                divisor=divisor,
            ),
            advice=say("divide by the number of micro-batches that the window really has"),
            where=line_of(block, window.step),
            excerpt=f"size = min({divisor}, len(loader) - i // {divisor} * {divisor})\n(loss / "
            "size).backward()",
        )

    def _left_at_the_end(self, note: Note, loop: _AccumulationLoop) -> Finding:
        return Finding(
            code=self.code,
            name=self.name,
            severity="info",
            optimizer=note.optimizer,
            first_step=max(note.iteration - 1, 0),
            last_step=max(note.iteration - 1, 0),
            parameters=(),
            evidence=(
                Evidence(
                    "num_backwards",
                    "",
                    max(note.iteration - 1, 0),
                    float(note.count),
                    float(loop.whole),
                ),
            ),
            cause=say(
                "when the program ended, {count} of the {whole} micro-batches that make a step "
                "had been backpropagated, and no step used "
                "them",
                count=note.count,
                whole=loop.whole,
            ),
            advice=say(
                "make a step of what is left at the end of each epoch, its losses divided by "
                "their own number"
            ),
            where=note.where,
        )


@dataclass(frozen=True, slots=True)
class _PendingFinding:
    """A finding that the next window decides on: it must have `num_after` micro-batches (0:
    any), and `whole` be what is usual (0: any).
    """

    index: int
    num_after: int
    finding: Finding
    whole: int = 0


@dataclass(slots=True)
class _AccumulationLoop:
    """How one optimizer accumulates: `whole` micro-batches a step, 0 while that is not known."""

    whole: int = 0
    where: str = ""  # its backward
    num_windows: int = 0
    num_whole: int = 0
    num_cleared: int = 0  # windows before which something was thrown away
    waiting: list[_PendingFinding] = field(default_factory=list[_PendingFinding])
    _last: int = 0
    _in_a_row: int = 0

    def add(self, num: int, min_whole: int) -> None:
        """A step with this many micro-batches."""
        self._in_a_row = self._in_a_row + 1 if num == self._last else 1
        self._last = num
        if num >= 2 and self._in_a_row >= min_whole and num != self.whole:
            self.whole, self.num_whole = num, self._in_a_row
            self.waiting = [each for each in self.waiting if each.whole in (0, num)]
        elif num == self.whole:
            self.num_whole += 1

    def is_regular(self) -> bool:
        """Whether nearly all windows are whole."""
        return (
            self.whole >= 2
            and self.num_whole >= 3
            and self.num_whole >= 0.75 * (self.num_windows - 1)
        )
