"""SG312 uneven-windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.script_names import at_line, line_of, optimizer_name
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.step_window import StepWindow
from seismograd.analysis.window_sizes import WindowSizes
from seismograd.analysis.windows import WindowReader
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding


@final
@dataclass
class UnevenWindows(Rule):
    """The windows of an accumulation have different sizes in a regular pattern: the condition for
    the step is inverted, or there is more than one.

    What it finds
        Gradient accumulation with windows of unequal size, as `if step % 4:` makes them in place of
        `if step % 4 == 0:`, and as two conditions make them (`step % 2 == 0 or step % 3 == 0`).

    Why it hurts
        The effective batch is smaller than intended, and every few steps it is twice as large as
        usual. Nothing raises an error; training is only noisier.

    How it decides
        Between {min_share:.0%} and {max_share:.0%} of the last steps of an optimizer use the usual
        number of backward passes from the same line, two or more, and the others use fewer. There
        are at least {min_large} such steps, and {regular:.0%} of the gaps between them have the
        same length; or {regular:.0%} of the gaps hold windows that are full two by two, and their
        lengths follow from those before ({min_predicted} or more). Other losses of the same forward
        pass do not count as further backward passes.

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
    min_predicted: int = 10  # gaps

    _windows: WindowReader = field(default_factory=WindowReader, init=False, repr=False)
    _loops: dict[int, WindowSizes] = field(
        default_factory=dict[int, WindowSizes], init=False, repr=False
    )

    def read_with(self, readers: SharedReaders) -> None:
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for window in block.read_by(self._windows):
            num = len(window.micro_batches())
            if num < 2 or window.is_closure or window.thrown:
                continue  # the reader leaves out plain steps, which `index` counts all the same
            loop = self._loops.setdefault(window.optimizer, WindowSizes())
            loop.add(window.index, window.iteration, num)
            if window.optimizer in self.found:
                self.found.extend(window.iteration, window.optimizer)
            elif self._is_uneven(loop):
                self.found.add(self._finding(block, window, loop))
        return self.found.take()

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_large)

    def _is_uneven(self, loop: WindowSizes) -> bool:
        if len(loop.gaps) + 1 < self.min_large:
            return False
        return self.min_share <= loop.share <= self.max_share and (
            loop.is_regular(self.regular)
            or loop.is_split(self.regular, self.min_large, self.min_predicted)
        )

    def _finding(self, block: SharedBlock, window: StepWindow, loop: WindowSizes) -> Finding:
        optimizer = optimizer_name(block, window.optimizer)
        is_inverted = loop.full == 2 and loop.is_regular(self.regular)
        gap = Counter(map(len, loop.gaps)).most_common(1)[0][0]
        accumulate = gap + 2 if is_inverted else loop.full
        sizes = [*([1] * gap), loop.full] * 2 if is_inverted else loop.period()
        values: dict[str, str | int | float] = {
            "optimizer": optimizer,
            "sizes": ", ".join(map(str, sizes)),
            "line": at_line(block, window.step),
            "backward": at_line(block, window.backwards[0]),
            "accumulate": accumulate,
        }
        num = float(len(window.micro_batches()))
        return self.finding(
            optimizer=window.optimizer,
            first_step=loop.first,
            last_step=window.iteration,
            evidence=(Evidence("num_backwards", "", window.iteration, num, 1.0),),
            cause=say(
                "{optimizer}.step() at {line} is called after {sizes}, … micro-batches (backward "
                "at {backward}): the condition is true for each batch except every {accumulate}th, "
                "instead of only for that one",
                **values,
            )
            if is_inverted
            else say(
                "{optimizer}.step() at {line} is called after {sizes}, … micro-batches (backward "
                "at {backward}): more than one condition leads to a step, so windows end before "
                "they have {accumulate}",
                **values,
            ),
            advice=say("call step only when the window is full: compare the remainder with 0")
            if is_inverted
            else say("call step only when the window is full, by one condition"),
            where=line_of(block, window.step),
            excerpt=f"if (i + 1) % {accumulate} == 0:\n    {optimizer}.step()\n"
            f"    {optimizer}.zero_grad()",
        )
