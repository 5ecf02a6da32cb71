"""SG312 uneven-windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from seismograd.analysis.script_names import line_of
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.windows import StepWindow, WindowReader
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding


@final
@dataclass
class UnevenWindows(Rule):
    """Steps come after one backward, after one, after two, and so on in a pattern: the condition
    for the step is the wrong way round.

    What it finds
        Accumulation whose windows are not equal: most steps use a single backward of a line, and
        every third or fourth uses two, as `if step % 4:` makes them in place of
        `if step % 4 == 0:`.

    Why it hurts
        The batch is not as large as was meant, and some steps count twice. Nothing raises, and the
        training goes on, only worse.

    How it decides
        Of the steps of an optimizer whose backwards come from one line, between {min_share:.0%} and
        {max_share:.0%} use more of them than one, the others one; there are at least {min_large} of
        those, and {regular:.0%} of the gaps between them are of the same length. Other losses of
        the same forward pass do not count as further backwards.

    False alarms
        A loop that accumulates at some of its steps on purpose, in a fixed pattern.

    What to try
        - Step when the window is full: `if (i + 1) % accumulate == 0:`.
        - Print the number of the batch at each step.

    References
        - PyTorch documentation, torch.amp: gradient accumulation.
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
    _findings: dict[int, Finding] = field(
        default_factory=dict[int, Finding], init=False, repr=False
    )

    def read_with(self, readers: SharedReaders) -> None:
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        news: dict[int, Finding] = {}
        for window in block.read_by(self._windows):
            num = len(window.micro_batches())
            if num < 2 or window.is_closure or window.thrown:
                continue  # plain steps are not among these: the numbers of the others tell them
            loop = self._loops.setdefault(window.optimizer, _Loop())
            loop.add(window.index, window.iteration)
            found = self._findings.get(window.optimizer)
            if found is not None:
                found = replace(found, last_step=window.iteration)
            elif self._is_uneven(loop):
                found = self._found(block, window, loop)
            else:
                continue
            news[window.optimizer] = self._findings[window.optimizer] = found
        yield from news.values()

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

    def _found(self, block: SharedBlock, window: StepWindow, loop: _Loop) -> Finding:
        gap, _ = Counter(loop.gaps).most_common(1)[0]
        line = line_of(block, window.step)
        values: dict[str, str | int | float] = {
            "sizes": ", ".join([*(["1"] * gap), str(len(window.micro_batches()))] * 2),
            "line": line or "?",
            "backward": line_of(block, window.backwards[0]) or "?",
            "accumulate": gap + 2,
        }
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=window.optimizer,
            first_step=loop.first,
            last_step=window.iteration,
            parameters=(),
            evidence=(
                Evidence(
                    "num_backwards", "", window.iteration, float(len(window.micro_batches())), 1.0
                ),
            ),
            cause=say(
                "the steps at {line} use unequal numbers of backwards ({backward}), in a pattern: "
                "{sizes}, …; so a condition steps at every batch but each {accumulate}th, in "
                "place of only there",
                **values,
            ),
            advice=say(
                "turn the condition round: step when the number of the batch, from 1, is a "
                "multiple of the window"
            ),
            where=line,
            excerpt=f"if (i + 1) % {values['accumulate']} == 0:\n    optimizer.step()\n"
            "    optimizer.zero_grad()",
        )


@dataclass(slots=True)
class _Loop:
    """The windows of one optimizer."""

    num_large: int = 0
    first: int = -1  # iteration of the first large one
    last: int = -1  # number of the last large one
    gaps: list[int] = field(default_factory=list[int])  # plain steps between two of those

    def add(self, index: int, iteration: int) -> None:
        """Another large window, step number `index` of the optimizer."""
        if self.num_large:
            self.gaps = [*self.gaps[-63:], index - self.last - 1]
        self.num_large, self.last = self.num_large + 1, index
        self.first = iteration if self.first < 0 else self.first
