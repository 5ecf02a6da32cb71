"""The windows of each optimizer, put together from the events: what was added to its gradients,
thrown away or clipped until it stepped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from seismograd.analysis.block_rows import columns, integers, unheard
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, EventKind, RowBatch, StepFlag

MAX_HELD = 4096  # backwards of a window that are remembered
MAX_DISCARDED = 16  # times that a window was cleared

_ODD_ROW = int(StepFlag.SKIPPED | StepFlag.NO_BACKWARD | StepFlag.BY_HAND | StepFlag.CHANGED)
_OVER = int(EventFlag.USED | EventFlag.EMPTY)
_RESCALED, _CLOSURE, _UNHEARD = (
    int(EventFlag.RESCALED),
    int(EventFlag.CLOSURE),
    int(StepFlag.UNHEARD),
)
_BACKWARD, _CLIP, _ZERO_GRAD, _STEP = (
    int(EventKind.BACKWARD),
    int(EventKind.CLIP),
    int(EventKind.ZERO_GRAD),
    int(EventKind.STEP),
)
_NEARLY = 1e-3
_FEW = 8  # rows of a block that are read one by one: NumPy takes as long for one as for a hundred


@dataclass(slots=True, eq=False)
class WindowEvent:
    """An event: the fields of EVENT_DTYPE, in their order. `used`: bits of the optimizers whose
    steps have used what this backward added.
    """

    iteration: int
    time_s: float
    value: float
    limit: float
    scale: float
    count: float
    weight: float
    touched: int
    site: int
    optimizer: int
    flags: int
    kind: int
    detail: int
    used: int = 0

    @property
    def total(self) -> float:
        """What all its samples count in the loss together: 1 in a mean, 1/4 in a quarter of one,
        their number in a sum; NaN: not known.
        """
        return self.count * self.weight


@dataclass(frozen=True, slots=True)
class WindowClip:
    """A clip of a window, after this many of its backwards; `late`: it came after the step that
    used these gradients, or before any.
    """

    call: WindowEvent
    late: bool
    num_before: int = 0


@dataclass(frozen=True, slots=True)
class DiscardedBackwards:
    """Backwards that this optimizer had not used when a call cleared their gradients; no other
    one has used those that are `unused`.
    """

    by: WindowEvent
    backwards: tuple[WindowEvent, ...]
    unused: tuple[WindowEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class StepWindow:
    """What led to one step of one optimizer; `index` counts its steps, `row` is that of the
    block, `flags` are those of the row.
    """

    optimizer: int
    index: int
    row: int
    flags: int
    step: WindowEvent
    backwards: tuple[WindowEvent, ...]
    thrown: tuple[DiscardedBackwards, ...]
    clips: tuple[WindowClip, ...]
    # a closure's: what has cleared the gradients that it computed, which the step may have used
    # before
    cleared: WindowEvent | None = None

    @property
    def iteration(self) -> int:
        """The iteration of the step."""
        return self.step.iteration

    def micro_batches(self) -> tuple[WindowEvent, ...]:
        """The backwards of the line that has most of them, without those that are other losses
        of the same forward pass.
        """
        own = [each for each in self.backwards if not each.flags & EventFlag.SHARED]
        sites = [each.site for each in own]
        site = max(dict.fromkeys(sites), key=sites.count, default=-1)
        return tuple(each for each in own if each.site == site)

    @property
    def is_closure(self) -> bool:
        """The step evaluates the loss itself: its own backwards come after its event, those of
        its first evaluation are here.
        """
        return bool(self.step.flags & EventFlag.CLOSURE)


@dataclass(slots=True)
class _OpenWindow:
    """A window that no step has ended yet."""

    backwards: list[WindowEvent] = field(default_factory=list[WindowEvent])
    thrown: list[DiscardedBackwards] = field(default_factory=list[DiscardedBackwards])
    clips: list[WindowClip] = field(default_factory=list[WindowClip])
    # one that evaluates the loss itself and is under way, its row and its flags
    step: tuple[WindowEvent, int, int] | None = None
    cleared: WindowEvent | None = None  # what has cleared the gradients that it computed


@dataclass(slots=True)
class WindowReader:
    """Reads blocks and gives the windows in which there was anything but one backward and one step;
    the others it only counts.

    A backward of a loss that is a part or a multiple of a mean, a skipped step and gradients that
    were changed by hand are something.
    """

    num_steps: dict[int, int] = field(default_factory=dict[int, int])  # of each optimizer
    num_unheard: int = 0  # steps whose backwards and clips were compiled
    num_closures: int = 0  # steps that evaluate the loss themselves
    several: bool = False  # another optimizer than the first was heard of
    # where each optimizer stepped for the first time
    first_sites: dict[int, int] = field(default_factory=dict[int, int])
    _open: dict[int, _OpenWindow] = field(default_factory=dict[int, _OpenWindow])
    # clips of gradients that no optimizer holds
    _stray: list[WindowEvent] = field(default_factory=list[WindowEvent])

    def read(self, block: RowBatch) -> list[StepWindow]:
        """The windows that end in this block, in order."""
        if not len(block):
            return []
        if not self.several and not self._is_open():
            plain = _site_if_plain(block) if len(block) > _FEW else _site_if_plain_few(block)
            if plain is not None:
                self.first_sites.setdefault(0, plain[0])
                self.num_closures += plain[1]
                self.num_steps[0] = self.num_steps.get(0, 0) + len(block)
                return []
        return list(self._read(block))

    def shortfall(self, needed: int) -> Message | None:
        """What was missing to judge `needed` steps; `None` when there were as many."""
        has = self.total_steps()
        if has - self.num_unheard < needed <= has:
            return unheard(self.num_unheard)
        return (
            None
            if has >= needed
            else say("needs {needed} steps, has {has}", needed=needed, has=has)
        )

    def total_steps(self) -> int:
        """Of all optimizers."""
        return sum(self.num_steps.values())

    def _is_open(self) -> bool:
        """Whether anything waits for the next step of the first optimizer."""
        opened = self._open.get(0)
        return bool(self._stray) or (
            opened is not None and bool(opened.backwards or opened.thrown or opened.clips)
        )

    def _read(self, block: RowBatch) -> Iterator[StepWindow]:
        iterations, row_flags = integers(block.steps, "iteration"), integers(block.steps, "flags")
        # optimizers whose steps evaluate the loss themselves and are under way
        within: list[int] = []
        for fields in block.events.tolist():
            call = WindowEvent(*fields)
            self.several |= call.touched > 1 or call.optimizer > 0
            if within:
                over = [each for each in within if self._is_over(each, call)]
                within = [each for each in within if each not in over]
                yield from self._ended(over)
            if call.kind == _BACKWARD:
                self._added(call)
            elif call.kind == _ZERO_GRAD:
                self._cleared(call)
            elif call.kind == _CLIP:
                self._clipped(call)
            elif call.kind == _STEP:
                row = int(np.searchsorted(iterations, call.iteration))
                if row < len(iterations) and iterations[row] == call.iteration:
                    flags = int(row_flags[row])
                    self.num_unheard += bool(flags & _UNHEARD)
                    if call.flags & _CLOSURE:
                        self.num_closures += 1
                        self._of(call.optimizer).step = call, row, flags
                        within.append(call.optimizer)
                    else:
                        window = self._stepped(call, row, flags)
                        if window is not None:
                            yield window
        yield from self._ended(within)

    def _is_over(self, optimizer: int, call: WindowEvent) -> bool:
        """Whether the step of this optimizer that is under way was over before this call."""
        step = self._of(optimizer).step
        if (
            step is None
            or call.iteration != step[0].iteration
            or (call.kind == _STEP and call.optimizer == optimizer)
        ):
            return True
        return not call.flags & _CLOSURE and bool(call.touched >> optimizer & 1)

    def _ended(self, optimizers: list[int]) -> Iterator[StepWindow]:
        """The windows of steps that evaluate the loss themselves, once all of that was heard."""
        for optimizer in optimizers:
            step = self._of(optimizer).step
            window = None if step is None else self._stepped(*step)
            if window is not None:
                yield window

    def _added(self, call: WindowEvent) -> None:
        for optimizer in _bits(call.touched):
            window = self._of(optimizer)
            if call.flags & EventFlag.CLOSURE and (
                window.step is None or call.flags & EventFlag.AGAIN
            ):
                window.cleared = None
                continue
            window.backwards.append(call)
            if len(window.backwards) > MAX_HELD:
                del window.backwards[0]

    def _cleared(self, call: WindowEvent) -> None:
        for optimizer in _bits(call.touched):
            window = self._of(optimizer)
            if window.backwards and _is_after_evaluation(window, call):
                window.cleared = call
            elif window.backwards:
                window.thrown = [*window.thrown, DiscardedBackwards(call, tuple(window.backwards))][
                    -MAX_DISCARDED:
                ]
                window.backwards = []

    def _clipped(self, call: WindowEvent) -> None:
        if call.flags & EventFlag.AGAIN:
            return
        late = bool(call.flags & _OVER)
        if not call.touched:
            self._stray = [*self._stray, call][-MAX_DISCARDED:]
        for optimizer in _bits(call.touched):
            window = self._of(optimizer)
            window.clips = [
                *window.clips,
                WindowClip(
                    call, late or (not window.backwards and call.value == 0), len(window.backwards)
                ),
            ][-MAX_DISCARDED:]

    def _stepped(self, call: WindowEvent, row: int, flags: int) -> StepWindow | None:
        optimizer = call.optimizer
        window, index = self._of(optimizer), self.num_steps.get(optimizer, 0)
        self.num_steps[optimizer] = index + 1
        self.first_sites.setdefault(optimizer, call.site)
        bit = 1 << optimizer if 0 <= optimizer < 64 else 0
        for backward in window.backwards:
            backward.used |= bit
        thrown = tuple(
            replace(each, unused=tuple(b for b in each.backwards if not b.used & ~bit))
            for each in window.thrown
        )
        clips = (*window.clips, *(WindowClip(each, True) for each in self._stray))
        self._open[optimizer], self._stray = _OpenWindow(), []
        odd = thrown or window.cleared or flags & _ODD_ROW or any(clip.late for clip in clips)
        if (
            not odd
            and len(window.backwards) == 1
            and not _is_rescaled(window.backwards[0].flags, window.backwards[0].total)
        ):
            return None
        return StepWindow(
            optimizer,
            index,
            row,
            flags,
            call,
            tuple(window.backwards),
            thrown,
            clips,
            window.cleared,
        )

    def _of(self, optimizer: int) -> _OpenWindow:
        window = self._open.get(optimizer)
        if window is None:
            window = self._open[optimizer] = _OpenWindow()
        return window


def _is_after_evaluation(window: _OpenWindow, call: WindowEvent) -> bool:
    """Whether a step clears what it has computed itself: it may have used it, or go on to
    evaluate the loss once more.
    """
    return (
        window.step is not None
        and bool(call.flags & _CLOSURE)
        and bool(window.backwards[-1].flags & _CLOSURE)
    )


def _bits(touched: int) -> Iterator[int]:
    """The optimizers whose bits are set."""
    optimizer = 0
    while touched:
        if touched & 1:
            yield optimizer
        touched >>= 1
        optimizer += 1


def _is_rescaled(flags: int, total: float) -> bool:
    """Whether a loss was multiplied or divided by a number, and is no mean after that as far as
    is known.
    """
    return bool(flags & _RESCALED) and abs(total - 1) > _NEARLY


def _site_if_plain(block: RowBatch) -> tuple[int, int] | None:
    """Where the first step was, and how many evaluate the loss themselves, if each row is one
    backward and one step of the first optimizer, and nothing else.
    """
    steps, events = block.steps, block.events
    if (
        (steps["num_backwards"] != 1).any()
        or (steps["num_steps"] != 1).any()
        or (steps["flags"] & _ODD_ROW).any()
    ):
        return None
    kind, flags = events["kind"], events["flags"]
    is_step = kind == _STEP
    if (
        int(is_step.sum()) != len(block)
        or (events["optimizer"][is_step] != 0).any()
        or (events["touched"] > 1).any()
    ):
        return None
    over = (flags & _OVER) != 0
    rescaled = np.abs(events["count"] * events["weight"] - 1) > _NEARLY
    odd = (kind == _BACKWARD) & ((flags & _RESCALED) != 0) & rescaled
    odd |= (kind == _CLIP) & (over | (events["touched"] == 0))
    odd |= (kind == _ZERO_GRAD) & ~over
    return (
        None
        if odd.any()
        else (int(events["site"][is_step][0]), int(np.count_nonzero(flags[is_step] & _CLOSURE)))
    )


def _site_if_plain_few(block: RowBatch) -> tuple[int, int] | None:
    """The same for few rows."""
    for num_backwards, num_steps, flags in columns(
        block.steps, "num_backwards", "num_steps", "flags"
    ):
        if num_backwards != 1 or num_steps != 1 or flags & _ODD_ROW:
            return None
    first, num_steps, num_closures = -1, 0, 0
    for kind, flags, touched, site, optimizer, count, weight in columns(
        block.events, "kind", "flags", "touched", "site", "optimizer", "count", "weight"
    ):
        if touched > 1:
            return None
        if kind == _STEP:
            first = site if num_steps == 0 else first
            num_steps += 1
            num_closures += flags & _CLOSURE
            if optimizer != 0:
                return None
        elif kind == _BACKWARD:
            if _is_rescaled(flags, count * weight):
                return None
        elif (kind == _CLIP and (flags & _OVER or not touched)) or (
            kind == _ZERO_GRAD and not flags & _OVER
        ):
            return None
    return (first, num_closures) if num_steps == len(block) else None
