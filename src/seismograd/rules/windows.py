"""The windows of each optimizer, put together from the events: what was added to its gradients, thrown away or clipped until it stepped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from seismograd.rules.rows import integers
from seismograd.schema import Block, EventFlag, EventKind, StepFlag

MAX_HELD = 4096  # backwards of a window that are remembered
MAX_THROWN = 16  # times that a window was cleared

_ODD_ROW = int(StepFlag.SKIPPED | StepFlag.NO_BACKWARD | StepFlag.BY_HAND | StepFlag.CHANGED)
_OVER = int(EventFlag.USED | EventFlag.EMPTY)
_FIELDS = ("kind", "iteration", "value", "limit", "scale", "count", "weight", "touched", "site", "optimizer", "flags", "detail")


@dataclass(slots=True, eq=False)
class Call:
    """An event. `used`: bits of the optimizers whose steps have used what this backward added."""

    kind: int
    iteration: int
    value: float
    limit: float
    scale: float
    count: float
    weight: float
    touched: int
    site: int
    optimizer: int
    flags: int
    detail: int
    used: int = 0

    @property
    def total(self) -> float:
        """What all its samples count in the loss together: 1 in a mean, 1/4 in a quarter of one, their number in a sum; NaN: not known."""
        return self.count * self.weight


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of a window, after this many of its backwards; `late`: it came after the step that used these gradients, or before any."""

    call: Call
    late: bool
    num_before: int = 0


@dataclass(frozen=True, slots=True)
class Thrown:
    """Backwards that this optimizer had not used when a call cleared their gradients; no other one has used those that are `unused`."""

    by: Call
    backwards: tuple[Call, ...]
    unused: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """What led to one step of one optimizer; `index` counts its steps, `row` is that of the block, `flags` are those of the row."""

    optimizer: int
    index: int
    row: int
    flags: int
    step: Call
    backwards: tuple[Call, ...]
    thrown: tuple[Thrown, ...]
    clips: tuple[Clip, ...]

    @property
    def iteration(self) -> int:
        """The iteration of the step."""
        return self.step.iteration

    def micro_batches(self) -> tuple[Call, ...]:
        """The backwards of the line that has most of them, without those that are other losses of the same forward pass."""
        own = [each for each in self.backwards if not each.flags & EventFlag.SHARED]
        sites = [each.site for each in own]
        site = max(dict.fromkeys(sites), key=sites.count, default=-1)
        return tuple(each for each in own if each.site == site)

    @property
    def is_closure(self) -> bool:
        """The step evaluates the loss itself, so its backwards come after it."""
        return bool(self.step.flags & EventFlag.CLOSURE)


@dataclass(slots=True)
class _Open:
    """A window that no step has ended yet."""

    backwards: list[Call] = field(default_factory=list[Call])
    thrown: list[Thrown] = field(default_factory=list[Thrown])
    clips: list[Clip] = field(default_factory=list[Clip])
    in_step: bool = False  # a step that evaluates the loss itself is under way


@dataclass(slots=True)
class Windows:
    """Reads blocks and gives the windows in which there was anything but one backward and one step; the others it only counts.

    A backward of a rescaled loss, a skipped step and gradients that were changed by hand are something.
    """

    num_steps: dict[int, int] = field(default_factory=dict[int, int])  # of each optimizer
    several: bool = False  # another optimizer than the first was heard of
    first_sites: dict[int, int] = field(default_factory=dict[int, int])  # where each optimizer stepped for the first time
    _open: dict[int, _Open] = field(default_factory=dict[int, _Open])
    _stray: list[Call] = field(default_factory=list[Call])  # clips of gradients that no optimizer holds

    def read(self, block: Block) -> list[Window]:
        """The windows that end in this block, in order."""
        if not len(block):
            return []
        if not self.several and self._is_plain(block):
            if 0 not in self.num_steps:
                self.first_sites[0] = int(block.events["site"][block.events["kind"] == EventKind.STEP][0])
            self.num_steps[0] = self.num_steps.get(0, 0) + len(block)
            return []
        return list(self._read(block))

    def total_steps(self) -> int:
        """Of all optimizers."""
        return sum(self.num_steps.values())

    def _is_plain(self, block: Block) -> bool:
        """Whether each row is one backward and one step of the first optimizer, and nothing else."""
        steps, events = block.steps, block.events
        if (steps["num_backwards"] != 1).any() or (steps["num_steps"] != 1).any() or (steps["flags"] & _ODD_ROW).any():
            return False
        opened = self._open.get(0)
        if self._stray or (opened is not None and (opened.backwards or opened.thrown or opened.clips)):
            return False
        kind, flags = events["kind"], events["flags"]
        is_step = kind == EventKind.STEP
        if int(is_step.sum()) != len(block) or (events["optimizer"][is_step] != 0).any() or (events["touched"] > 1).any():
            return False
        over = (flags & _OVER) != 0
        odd = (kind == EventKind.BACKWARD) & ((flags & int(EventFlag.RESCALED)) != 0)
        odd |= (kind == EventKind.CLIP) & (over | (events["touched"] == 0))
        odd |= (kind == EventKind.ZERO_GRAD) & ~over
        return not odd.any()

    def _read(self, block: Block) -> Iterator[Window]:
        iterations, row_flags = integers(block.steps, "iteration"), integers(block.steps, "flags")
        for fields in zip(*(block.events[name].tolist() for name in _FIELDS), strict=True):
            call = Call(*fields)
            self.several |= call.touched > 1 or call.optimizer > 0
            if call.kind == EventKind.BACKWARD:
                self._added(call)
            elif call.kind == EventKind.ZERO_GRAD:
                self._cleared(call)
            elif call.kind == EventKind.CLIP:
                self._clipped(call)
            elif call.kind == EventKind.STEP:
                row = int(np.searchsorted(iterations, call.iteration))
                if row < len(iterations) and iterations[row] == call.iteration:
                    window = self._stepped(call, row, int(row_flags[row]))
                    if window is not None:
                        yield window

    def _added(self, call: Call) -> None:
        for optimizer in _bits(call.touched):
            window = self._of(optimizer)
            if call.flags & EventFlag.CLOSURE and window.in_step:
                continue
            window.in_step = False
            window.backwards.append(call)
            if len(window.backwards) > MAX_HELD:
                del window.backwards[0]

    def _cleared(self, call: Call) -> None:
        for optimizer in _bits(call.touched):
            window = self._of(optimizer)
            if window.backwards:
                window.thrown = [*window.thrown, Thrown(call, tuple(window.backwards))][-MAX_THROWN:]
                window.backwards = []

    def _clipped(self, call: Call) -> None:
        late = bool(call.flags & _OVER)
        if not call.touched:
            self._stray = [*self._stray, call][-MAX_THROWN:]
        for optimizer in _bits(call.touched):
            window = self._of(optimizer)
            window.clips = [*window.clips, Clip(call, late or (not window.backwards and call.value == 0), len(window.backwards))][
                -MAX_THROWN:
            ]

    def _stepped(self, call: Call, row: int, flags: int) -> Window | None:
        optimizer = call.optimizer
        window, index = self._of(optimizer), self.num_steps.get(optimizer, 0)
        self.num_steps[optimizer] = index + 1
        self.first_sites.setdefault(optimizer, call.site)
        bit = 1 << optimizer if 0 <= optimizer < 64 else 0
        for backward in window.backwards:
            backward.used |= bit
        thrown = tuple(replace(each, unused=tuple(b for b in each.backwards if not b.used & ~bit)) for each in window.thrown)
        clips = (*window.clips, *(Clip(each, True) for each in self._stray))
        self._open[optimizer], self._stray = _Open(in_step=bool(call.flags & EventFlag.CLOSURE)), []
        odd = thrown or flags & _ODD_ROW or any(clip.late for clip in clips)
        rescaled = any(each.flags & EventFlag.RESCALED for each in window.backwards)
        if not odd and len(window.backwards) == 1 and not rescaled:
            return None
        return Window(optimizer, index, row, flags, call, tuple(window.backwards), thrown, clips)

    def _of(self, optimizer: int) -> _Open:
        window = self._open.get(optimizer)
        if window is None:
            window = self._open[optimizer] = _Open()
        return window


def _bits(touched: int) -> Iterator[int]:
    """The optimizers whose bits are set."""
    optimizer = 0
    while touched:
        if touched & 1:
            yield optimizer
        touched >>= 1
        optimizer += 1
