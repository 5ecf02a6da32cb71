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
        A remainder at the end of the program is reported as info, not as a warning, because it
        happens at most once. A short last window whose losses are divided by its own size is
        correct, and so is clearing after a loss that is not finite.

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
        """Report what waited to see how the training goes on."""
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
            "zero_grad at {clear} cleared gradients that no step had used: {left} of the {whole} "
            "micro-batches that make up a step of {optimizer:the} were discarded",
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
            "the step of {optimizer:the} at {step} used {num} micro-batches, while all other steps "
            "use {whole}: the remainder from before ({left}) leaked into it",
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
        """Return the finding that advises a step on the micro-batches left over."""
        optimizer = optimizer_name(block, window.optimizer)
        return self.finding(
            optimizer=window.optimizer,
            first_step=window.iteration,
            evidence=(evidence,),
            cause=cause,
            advice=say(
                "take a step at the end of each epoch with the remaining micro-batches, and divide "
                "their losses by how many there are",
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
                backward=at_line(block, first),
                divisor=divisor,
            ),
            advice=say("divide by the number of micro-batches that the window actually has"),
            where=line_of(block, window.step),
            excerpt=f"size = min({divisor}, len(loader) - i // {divisor} * {divisor})\n(loss / "
            "size).backward()",
        )

    def _left_at_the_end(self, note: Note, loop: _AccumulationLoop) -> Finding:
        return self.finding(
            severity="info",
            optimizer=note.optimizer,
            first_step=max(note.iteration - 1, 0),
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
                "the program ended with micro-batches whose gradients no step used: {count} of the "
                "{whole} that make up a step",
                count=note.count,
                whole=loop.whole,
            ),
            advice=say(
                "take a step at the end of each epoch with the remaining micro-batches, and divide "
                "their losses by how many there are"
            ),
            where=note.where,
        )


@dataclass(frozen=True, slots=True)
class _PendingFinding:
    """A finding that the next window decides: it must have `num_after` micro-batches (0: any), and
    `whole` be the usual number (0: any).
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
    num_cleared: int = 0  # windows before which something was discarded
    waiting: list[_PendingFinding] = field(default_factory=list[_PendingFinding])
    _last: int = 0
    _in_a_row: int = 0

    def add(self, num: int, min_whole: int) -> None:
        """Add a step with this many micro-batches."""
        self._in_a_row = self._in_a_row + 1 if num == self._last else 1
        self._last = num
        if num >= 2 and self._in_a_row >= min_whole and num != self.whole:
            self.whole, self.num_whole = num, self._in_a_row
            self.waiting = [each for each in self.waiting if each.whole in (0, num)]
        elif num == self.whole:
            self.num_whole += 1

    def is_regular(self) -> bool:
        """Return whether nearly all windows are whole."""
        return (
            self.whole >= 2
            and self.num_whole >= 3
            and self.num_whole >= 0.75 * (self.num_windows - 1)
        )
