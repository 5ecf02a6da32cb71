"""SG312 uneven-windows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.micro_batches import MicroBatches
from seismograd.analysis.step_window import StepWindow
from seismograd.analysis.window_sizes import WindowSizes
from seismograd.diagnosis.rule import per_optimizer
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, Values, say
from seismograd.schema import Finding


@final
@dataclass
class UnevenWindows(WindowRule):
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
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG307", "SG308")

    min_large: int = 5
    min_share: float = 0.15
    max_share: float = 0.6
    regular: float = 0.8
    min_predicted: int = 10  # gaps

    _loops: dict[int, WindowSizes] = per_optimizer(WindowSizes)

    def look(self, window: StepWindow) -> None:
        num = len(MicroBatches.of(window))
        if num < 2 or window.is_closure or window.thrown:
            return  # the reader leaves out plain steps, which `index` counts all the same
        loop = self._loops[window.optimizer]
        loop.add(window.index, window.iteration, num)
        if window.optimizer in self.found:
            self.found.extend(window.iteration, window.optimizer)
        elif self._is_uneven(loop):
            self.found.add(self._finding(window, loop, num))

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_large)

    def _is_uneven(self, loop: WindowSizes) -> bool:
        if len(loop.gaps) + 1 < self.min_large:
            return False
        return self.min_share <= loop.share <= self.max_share and (
            loop.is_regular(self.regular)
            or loop.is_split(self.regular, self.min_large, self.min_predicted)
        )

    def _finding(self, window: StepWindow, loop: WindowSizes, num: int) -> Finding:
        optimizer = window.name
        is_inverted = loop.full == 2 and loop.is_regular(self.regular)
        gap = Counter(map(len, loop.gaps)).most_common(1)[0][0]
        accumulate = gap + 2 if is_inverted else loop.full
        sizes = [*([1] * gap), loop.full] * 2 if is_inverted else loop.period()
        values: Values = {
            "optimizer": optimizer,
            "sizes": ", ".join(map(str, sizes)),
            "line": window.at(window.step),
            "backward": window.at(window.backwards[0]),
            "accumulate": accumulate,
        }
        if is_inverted:
            cause = say(
                "{optimizer}.step() at {line} is called after {sizes}, … micro-batches (backward "
                "at {backward}): the condition is true for all batches but one in {accumulate}, "
                "instead of only for that one",
                **values,
            )
            advice = say("call step only when the window is full: compare the remainder with 0")
        else:
            cause = say(
                "{optimizer}.step() at {line} is called after {sizes}, … micro-batches (backward "
                "at {backward}): more than one condition leads to a step, so windows end before "
                "they have {accumulate}",
                **values,
            )
            advice = say("call step only when the window is full, by one condition")
        return self.finding_of_window(
            window,
            cause,
            advice,
            f"if (i + 1) % {accumulate} == 0:\n    {optimizer}.step()\n    {optimizer}.zero_grad()",
            evidence=(window.evidence("num_backwards", num, 1.0),),
            since=loop.first,
        )
