"""Reconstruct the windows of each optimizer from the events: what was added to its gradients,
discarded or clipped until it stepped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from seismograd.analysis.block_rows import integers
from seismograd.analysis.plain_rows import (
    BACKWARD,
    CLIP,
    CLOSURE,
    ODD_ROW,
    OVER,
    STEP,
    ZERO_GRAD,
    is_rescaled,
    site_if_plain,
)
from seismograd.analysis.step_counter import StepCounter
from seismograd.analysis.step_window import (
    DiscardedBackwards,
    StepWindow,
    WindowClip,
    WindowEvent,
)
from seismograd.i18n import Message
from seismograd.schema import EventFlag, RowBatch, StepFlag

MAX_HELD = 4096  # backwards of a window that are remembered
MAX_DISCARDED = 16  # times that a window was cleared
NUM_BITS = 64  # optimizers that have one in an event
WITHOUT_BIT = 1 << NUM_BITS  # in `used`: by any other one

_UNHEARD = int(StepFlag.UNHEARD)


@dataclass(slots=True)
class _OpenWindow:
    """A window that no step has ended yet."""

    backwards: list[WindowEvent] = field(default_factory=list[WindowEvent])
    thrown: list[DiscardedBackwards] = field(default_factory=list[DiscardedBackwards])
    clips: list[WindowClip] = field(default_factory=list[WindowClip])
    # a running step that evaluates the loss itself, its row and its flags
    step: tuple[WindowEvent, int, int] | None = None
    cleared: WindowEvent | None = None  # what has cleared the gradients that it computed


@dataclass(slots=True)
class WindowReader:
    """Reads blocks and yields the windows with anything but one backward and one step; the others
    are only counted.

    A backward of a loss that is a part or a multiple of a mean, a skipped step and manually changed
    gradients count as something.
    """

    num_steps: dict[int, int] = field(default_factory=dict[int, int])  # of each optimizer
    num_unheard: int = 0  # steps whose backwards and clips were compiled
    num_closures: int = 0  # steps that evaluate the loss themselves
    several: bool = False  # another optimizer than the first has appeared
    # where each optimizer stepped for the first time
    first_sites: dict[int, int] = field(default_factory=dict[int, int])
    _open: dict[int, _OpenWindow] = field(default_factory=dict[int, _OpenWindow])
    # clips of gradients that no optimizer holds
    _stray: list[WindowEvent] = field(default_factory=list[WindowEvent])

    def read(self, block: RowBatch) -> list[StepWindow]:
        """Return the windows that end in this block, in order."""
        if not len(block):
            return []
        if not self.several and not self._is_open():
            plain = site_if_plain(block)
            if plain is not None:
                self.first_sites.setdefault(0, plain[0])
                self.num_closures += plain[1]
                self.num_steps[0] = self.num_steps.get(0, 0) + len(block)
                return []
        return list(self._read(block))

    def shortfall(self, needed: int) -> Message | None:
        """Return the message about what was missing to judge `needed` steps; `None` when there were
        as many.
        """
        return StepCounter(self.total_steps(), self.num_unheard).shortfall(needed)

    def total_steps(self) -> int:
        """Return the number of steps of all optimizers."""
        return sum(self.num_steps.values())

    def _is_open(self) -> bool:
        """Return whether anything waits for the next step of the first optimizer."""
        opened = self._open.get(0)
        return bool(self._stray) or (
            opened is not None and bool(opened.backwards or opened.thrown or opened.clips)
        )

    def _read(self, block: RowBatch) -> Iterator[StepWindow]:
        iterations, row_flags = integers(block.steps, "iteration"), integers(block.steps, "flags")
        # optimizers with a running step that evaluates the loss itself
        within: list[int] = []
        for fields in block.events.tolist():
            call = WindowEvent(*fields)
            self.several |= call.touched > 1 or call.optimizer > 0
            if within:
                over = [each for each in within if self._is_over(each, call)]
                within = [each for each in within if each not in over]
                yield from self._ended(block, over)
            if call.kind == BACKWARD:
                self._added(call)
            elif call.kind == ZERO_GRAD:
                self._cleared(call)
            elif call.kind == CLIP:
                self._clipped(call)
            elif call.kind == STEP:
                row = int(np.searchsorted(iterations, call.iteration))
                if row < len(iterations) and iterations[row] == call.iteration:
                    flags = int(row_flags[row])
                    self.num_unheard += bool(flags & _UNHEARD)
                    if call.flags & CLOSURE:
                        self.num_closures += 1
                        self._of(call.optimizer).step = call, row, flags
                        within.append(call.optimizer)
                    else:
                        window = self._stepped(block, call, row, flags)
                        if window is not None:
                            yield window
        yield from self._ended(block, within)

    def _is_over(self, optimizer: int, call: WindowEvent) -> bool:
        """Return whether the running step of this optimizer was over before this call."""
        step = self._of(optimizer).step
        if (
            step is None
            or call.iteration != step[0].iteration
            or (call.kind == STEP and call.optimizer == optimizer)
        ):
            return True
        return not call.flags & CLOSURE and bool(call.touched >> optimizer & 1)

    def _ended(self, block: RowBatch, optimizers: list[int]) -> Iterator[StepWindow]:
        """Yield the windows of steps that evaluate the loss themselves, once all of their events
        are known.
        """
        for optimizer in optimizers:
            step = self._of(optimizer).step
            window = None if step is None else self._stepped(block, *step)
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
        late = bool(call.flags & OVER)
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

    def _stepped(
        self, block: RowBatch, call: WindowEvent, row: int, flags: int
    ) -> StepWindow | None:
        optimizer = call.optimizer
        window, index = self._of(optimizer), self.num_steps.get(optimizer, 0)
        self.num_steps[optimizer] = index + 1
        self.first_sites.setdefault(optimizer, call.site)
        bit = 1 << optimizer if 0 <= optimizer < NUM_BITS else 0
        if optimizer >= NUM_BITS:
            self._stepped_without_bit()
        for backward in window.backwards:
            backward.used |= bit
        thrown = tuple(
            replace(each, unused=tuple(b for b in each.backwards if not b.used & ~bit))
            for each in window.thrown
        )
        clips = (*window.clips, *(WindowClip(each, True) for each in self._stray))
        self._open[optimizer], self._stray = _OpenWindow(), []
        odd = thrown or window.cleared or flags & ODD_ROW or any(clip.late for clip in clips)
        if (
            not odd
            and len(window.backwards) == 1
            and not is_rescaled(window.backwards[0].flags, window.backwards[0].total)
        ):
            return None
        return StepWindow(
            block,
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

    def _stepped_without_bit(self) -> None:
        """Note that any backward may have been used by a step of which no event can say so."""
        for window in self._open.values():
            for backward in reversed(window.backwards):
                if backward.used & WITHOUT_BIT:
                    break
                backward.used |= WITHOUT_BIT

    def _of(self, optimizer: int) -> _OpenWindow:
        window = self._open.get(optimizer)
        if window is None:
            window = self._open[optimizer] = _OpenWindow()
        return window


def _is_after_evaluation(window: _OpenWindow, call: WindowEvent) -> bool:
    """Return whether a step clears what it has computed itself: it may have used it, or go on to
    evaluate the loss once more.
    """
    return (
        window.step is not None
        and bool(call.flags & CLOSURE)
        and bool(window.backwards[-1].flags & CLOSURE)
    )


def _bits(touched: int) -> Iterator[int]:
    """Yield the optimizers whose bits are set."""
    optimizer = 0
    while touched:
        if touched & 1:
            yield optimizer
        touched >>= 1
        optimizer += 1
