"""SG312 uneven-windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.script_names import at_line, line_of, optimizer_name
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.windows import StepWindow, WindowReader
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding


@final
@dataclass
class UnevenWindows(Rule):
    """Most steps use one micro-batch, and in a regular pattern one step uses two: the condition for
    the step is inverted.

    What it finds
        Gradient accumulation with windows of unequal size, as `if step % 4:` makes them in place of
        `if step % 4 == 0:`.

    Why it hurts
        The effective batch is smaller than intended, and every few steps it is twice as large as
        usual. Nothing raises an error; training is only noisier.

    How it decides
        Between {min_share:.0%} and {max_share:.0%} of the steps of an optimizer use more than one
        backward pass from the same line, and the others use one. There are at least {min_large}
        such steps, and {regular:.0%} of the gaps between them have the same length. Other losses of
        the same forward pass do not count as further backward passes.

    False alarms
        A loop that accumulates only at some of its steps on purpose, in a fixed pattern.

    What to try
        - Step when the window is full: `if (i + 1) % accumulate == 0:`.
        - Print the number of the batch at each step.

    References
        - PyTorch documentation, Automatic mixed precision examples: gradient accumulation.
    """

    code: ClassVar[str] = "SG312"
    name: ClassVar[str] = "uneven-windows"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG307", "SG308")

    min_large: int = 5
    min_share: float = 0.15
    max_share: float = 0.6
    regular: float = 0.8

    _windows: WindowReader = field(default_factory=WindowReader, init=False, repr=False)
    _loops: dict[int, _Loop] = field(default_factory=dict[int, "_Loop"], init=False, repr=False)

    def read_with(self, readers: SharedReaders) -> None:
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for window in block.read_by(self._windows):
            num = len(window.micro_batches())
            if num < 2 or window.is_closure or window.thrown:
                continue  # the reader leaves out plain steps, which `index` counts all the same
            loop = self._loops.setdefault(window.optimizer, _Loop())
            loop.add(window.index, window.iteration)
            if window.optimizer in self.found:
                self.found.extend(window.iteration, window.optimizer)
            elif self._is_uneven(loop):
                self.found.add(self._finding(block, window, loop))
        return self.found.take()

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_large)

    def _is_uneven(self, loop: _Loop) -> bool:
        if len(loop.gaps) + 1 < self.min_large:
            return False
        share = loop.num_large / (loop.last + 1)
        gap, often = Counter(loop.gaps).most_common(1)[0]
        return (
            gap > 0
            and self.min_share <= share <= self.max_share
            and often >= self.regular * len(loop.gaps)
        )

    def _finding(self, block: SharedBlock, window: StepWindow, loop: _Loop) -> Finding:
        gap, _ = Counter(loop.gaps).most_common(1)[0]
        num, optimizer = len(window.micro_batches()), optimizer_name(block, window.optimizer)
        accumulate = gap + 2
        return self.finding(
            optimizer=window.optimizer,
            first_step=loop.first,
            last_step=window.iteration,
            evidence=(Evidence("num_backwards", "", window.iteration, float(num), 1.0),),
            cause=say(
                "{optimizer}.step() at {line} is called after {sizes}, … micro-batches (backward "
                "at {backward}): the condition is true for each batch except every {accumulate}th, "
                "instead of only for that one",
                optimizer=optimizer,
                sizes=", ".join([*(["1"] * gap), str(num)] * 2),
                line=at_line(block, window.step),
                backward=at_line(block, window.backwards[0]),
                accumulate=accumulate,
            ),
            advice=say("call step only when the window is full: compare the remainder with 0"),
            where=line_of(block, window.step),
            excerpt=f"if (i + 1) % {accumulate} == 0:\n    {optimizer}.step()\n"
            f"    {optimizer}.zero_grad()",
        )


@dataclass(slots=True)
class _Loop:
    """The windows of one optimizer."""

    num_large: int = 0
    first: int = -1  # iteration of the first large one
    last: int = -1  # number of the last large one
    gaps: list[int] = field(default_factory=list[int])  # plain steps between two of those

    def add(self, index: int, iteration: int) -> None:
        """Add another large window, step number `index` of the optimizer."""
        if self.num_large:
            self.gaps = [*self.gaps[-63:], index - self.last - 1]
        self.num_large, self.last = self.num_large + 1, index
        self.first = iteration if self.first < 0 else self.first
