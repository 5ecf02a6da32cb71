"""What a rule is given of the calls that led to one step of an optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from seismograd.schema import EventFlag


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
    the block, `flags` are those of the row.
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
        """Return the iteration of the step."""
        return self.step.iteration

    def micro_batches(self) -> tuple[WindowEvent, ...]:
        """Return the backwards of the line that has most of them, without those that are other
        losses of the same forward pass.
        """
        own = [each for each in self.backwards if not each.flags & EventFlag.SHARED]
        sites = [each.site for each in own]
        site = max(dict.fromkeys(sites), key=sites.count, default=-1)
        return tuple(each for each in own if each.site == site)

    @property
    def is_closure(self) -> bool:
        """Return whether the step evaluates the loss itself: its own backwards come after its
        event; those of its first evaluation are here.
        """
        return bool(self.step.flags & EventFlag.CLOSURE)
