"""What a rule is given of the calls that led to one step of an optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import BoolArray, integers, line_at, statistic
from seismograd.analysis.script_names import optimizer_name, own_text, stepped_of
from seismograd.schema import EventFlag, EventKind, Evidence, FloatArray, IntArray, RowBatch


@dataclass(slots=True, eq=False)
class WindowEvent:
    """An event, its fields in the order of EVENT_DTYPE. `used`: bits of the optimizers whose
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
        """Return the total weight of its samples in the loss: 1 in a mean, 1/4 in a quarter of one,
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
    """The events that led to one step of one optimizer; `index` counts its steps, `row` is that of
    the step in its block, `flags` are those of the row.
    """

    block: RowBatch = field(repr=False)
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
        """Return the iteration of the step."""
        return self.step.iteration

    @property
    def name(self) -> str:
        """Return the name of the optimizer in the script."""
        return optimizer_name(self.block, self.optimizer)

    def line(self, call: WindowEvent) -> str:
        """Return `file:line` of a call, empty where it is not known."""
        return line_at(self.block, call.site)

    def at(self, call: WindowEvent) -> str:
        """Return `train.py:42` to name a call by; where it is not known, a question mark."""
        return self.line(call) or "?"

    def text(self, call: WindowEvent, otherwise: str) -> str:
        """Return a call as the script writes it, `otherwise` where its line does not show it."""
        return own_text(self.block, call.site, otherwise)

    def via(self, call: WindowEvent) -> str:
        """Return the package through which the script makes a call, empty where it calls torch."""
        sites = self.block.sites
        return sites[call.site].via if 0 <= call.site < len(sites) else ""

    @property
    def optimizer_text(self) -> str:
        """Return the optimizer as the script writes it where it steps."""
        return stepped_of(self.text(self.step, f"{self.name}.step()"), self.name)

    @property
    def owned(self) -> BoolArray:
        """Return which columns are parameters that the optimizer holds  # (P,)."""
        return np.array([p.optimizer == self.optimizer for p in self.block.parameters], np.bool_)

    @property
    def states(self) -> IntArray:
        """Return what the gradients of its parameters are at the step."""
        return self.block.state[self.row][self.owned]

    def statistic(self, name: str) -> FloatArray:
        """Return a statistic of its parameters at the step."""
        return statistic(self.block, name)[self.row][self.owned]

    def number(self, name: str) -> float:
        """Return a real number of the row of the step."""
        return float(self.block.steps[name][self.row])

    def evidence(self, statistic: str, value: float, limit: float, parameter: str = "") -> Evidence:
        """Return a number of this step that supports a finding."""
        return Evidence(statistic, parameter, self.iteration, float(value), float(limit))

    def has_event(self, kind: EventKind) -> bool:
        """Return whether there was a call of this kind in the iteration of the step, whatever its
        gradients.
        """
        mine = integers(self.block.events, "iteration") == self.iteration
        return bool((mine & (integers(self.block.events, "kind") == kind)).any())

    @property
    def discarded(self) -> list[WindowEvent]:
        """Return the backwards that were cleared before this optimizer used them."""
        return [each for group in self.thrown for each in group.backwards]

    @property
    def unused(self) -> list[WindowEvent]:
        """Return those of them that no other optimizer has used."""
        return [each for group in self.thrown for each in group.unused]

    @property
    def is_closure(self) -> bool:
        """Return whether the step evaluates the loss itself: its own backwards come after its
        event; those of its first evaluation are here.
        """
        return bool(self.step.flags & EventFlag.CLOSURE)
