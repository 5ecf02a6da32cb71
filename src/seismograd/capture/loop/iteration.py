"""One iteration in progress: its calls and the readings of its gradients, until it becomes a
row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.capture.graph.loss_reduction import LossReduction
from seismograd.capture.probes.per_loss_gradients import ComparedLosses
from seismograd.capture.probes.probed_updates import ProbedUpdates
from seismograd.capture.rows.applied_norm import AppliedClip, after_clips
from seismograd.measure.backend import PendingNumbers
from seismograd.schema import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    STATISTICS,
    EventKind,
    FloatArray,
    IntArray,
    Parameter,
    State,
    StateArray,
    StatisticKind,
    StepFlag,
    event_entry,
)
from seismograd.tensors.device_scalars import Scalar

Values = Mapping[str, FloatArray]
SKIPPED = int(StepFlag.SKIPPED)
NOT_KNOWN = Scalar(math.nan)
# The statistics that are multiplied by a number when the gradient is.
SKETCH = "gradient_sketch"
PROPORTIONAL = frozenset(
    each.name
    for each in STATISTICS
    if each.subject == "gradient"
    and each.kind in (StatisticKind.NORM, StatisticKind.LARGEST, StatisticKind.SUM)
) | {SKETCH}


@dataclass(slots=True)
class CapturedEvent:
    """A call, with numbers that may still be on a device."""

    kind: int
    time_s: float
    site: int
    optimizer: int = -1
    value: Scalar = NOT_KNOWN
    scale: Scalar | None = None  # what the loss or the gradients are multiplied by
    limit: Scalar = NOT_KNOWN
    detail: int = 0
    reduction: LossReduction | None = None
    touched: int = 0
    flags: int = 0
    unclaimed: bool = False  # a backward that reached no optimizer known at the time

    def record(self, iteration: int) -> tuple[object, ...]:
        """Return it as an entry of EVENT_DTYPE; waits for numbers still on a device."""
        scale = 1.0 if self.scale is None else self.scale.read()
        value, count, weight, flags = self.value.read(), math.nan, math.nan, self.flags
        if self.kind == EventKind.BACKWARD:
            value /= scale
        if self.reduction is not None:
            count, weight = self.reduction.count.read(), self.reduction.weight.read() / scale
            flags |= self.reduction.flags
        return event_entry(
            iteration=iteration,
            time_s=self.time_s,
            value=value,
            limit=self.limit.read(),
            scale=scale,
            count=count,
            weight=weight,
            touched=self.touched,
            site=self.site,
            optimizer=self.optimizer,
            flags=flags,
            kind=self.kind,
            detail=self.detail,
        )


@dataclass(slots=True)
class GradientReading:
    """The ready gradients of one optimizer as they were read  # (n,) each, still multiplied by
    `scale`.

    `numels` counts the scalars of each. `present` says which gradients exist, and is `None` where
    all do.
    """

    columns: IntArray
    numels: IntArray
    present: Sequence[bool] | None
    values: Values
    samples: Values
    elements: FloatArray  # (E,)
    scale: Scalar | None
    losses: tuple[Scalar, ...]
    loss_scale: Scalar | None
    whole: bool = False  # all columns at that time, in their order
    arrival: PendingReading | None = None  # set while the numbers are in transfer
    is_unread: bool = False  # left out on request, and not even checked
    sketches: FloatArray | None = None  # (n, SKETCH_WIDTH), NaN where there is none
    is_ordinary: bool = False  # known to have no norm of 0, and only finite numbers

    @property
    def state(self) -> StateArray:
        """Return the state of each gradient, once the numbers have arrived."""
        return states(self.values, self.present, self.numels)

    def settle(self) -> None:
        """Wait for the numbers if necessary."""
        if self.arrival is not None:
            self.arrival.finish()


class PendingReading:
    """Numbers in transfer from a device, and what to do with them on arrival."""

    def __init__(self, pending: PendingNumbers, complete: Callable[[], None]) -> None:
        self._pending: PendingNumbers | None = pending
        self._complete = complete

    def is_done(self) -> bool:
        """Return whether they have arrived; does not wait."""
        return self._pending is None or self._pending.is_done()

    def finish(self) -> None:
        """Wait for them if necessary, and use them."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.finish()
            self._complete()


@dataclass(slots=True)
class OptimizerStep:
    """One step of one optimizer in this iteration."""

    optimizer: int
    number: int
    lr: Scalar
    num_backwards: int
    flags: StepFlag
    carried: IntArray  # columns
    clips: tuple[AppliedClip, ...] = ()
    reading: GradientReading | None = None
    # read again, where the clips do not show what was consumed
    applied: GradientReading | None = None
    probed: ProbedUpdates | None = None

    def applied_norm(self) -> FloatArray:
        """Return the norms of what the step consumed, for the columns of `reading`  # (n,); NaN
        when it consumed nothing.
        """
        assert self.reading is not None
        columns = self.reading.columns
        if int(self.flags) & SKIPPED:
            return np.full(len(columns), np.nan)
        if self.applied is not None and np.array_equal(self.applied.columns, columns):
            return unscaled(self.applied.values, self.applied.scale)["grad_norm"]
        ready = unscaled(self.reading.values, self.reading.scale)["grad_norm"]
        return after_clips(ready, columns, self.clips) if self.clips else ready


def divided(values: Values, scale: float) -> dict[str, FloatArray]:
    """Return the statistics of g/scale from those of g."""
    result = {
        name: value / scale if name in PROPORTIONAL else value for name, value in values.items()
    }
    if "exponents" in result:
        shift = round(math.log2(scale) / HISTOGRAM_EXPONENTS_PER_BIN)
        shifted = np.zeros_like(result["exponents"])
        for source in range(HISTOGRAM_BINS):
            shifted[:, min(max(source - shift, 0), HISTOGRAM_BINS - 1)] += result["exponents"][
                :, source
            ]
        result["exponents"] = shifted
    return result


def unscaled(values: Values, scale: Scalar | None) -> Values:
    """Return the statistics, or sketches, with the loss scale, if any, divided out."""
    factor = 1.0 if scale is None else scale.read()
    return (
        values
        if factor == 1.0 or not math.isfinite(factor) or factor <= 0
        else divided(values, factor)
    )


@dataclass(slots=True)
class Iteration:
    """What is known of the iteration so far. It gets its number when it is over, because another
    thread may be in an iteration of its own.
    """

    events: list[CapturedEvent] = field(default_factory=list[CapturedEvent])
    steps: list[OptimizerStep] = field(default_factory=list[OptimizerStep])
    compared: list[ComparedLosses] = field(default_factory=list[ComparedLosses])
    overhead_s: float = 0.0
    # Since it is over:
    number: int = -1
    parameters: tuple[Parameter, ...] = ()  # the columns there are
    epoch: int | None = None  # set before that where the next epoch has begun since its step
    ended_s: float = math.nan

    def is_ready(self) -> bool:
        """Return whether all its numbers have arrived; does not wait."""
        arrivals = [
            r.arrival
            for s in self.steps
            for r in (s.reading, s.applied)
            if r is not None and r.arrival is not None
        ]
        if not arrivals:
            return True
        if not all(arrival.is_done() for arrival in arrivals):
            return False
        for arrival in arrivals:
            arrival.finish()
        return not any(scalar.tensor is not None for scalar in self._scalars())

    def _scalars(self) -> Iterator[Scalar]:
        for event in self.events:
            yield from (event.value, event.limit, *(() if event.scale is None else (event.scale,)))
            if event.reduction is not None:
                yield from (*event.reduction.count.pending(), *event.reduction.weight.pending())
        for step in self.steps:
            yield step.lr
            yield from (scalar for clip in step.clips for scalar in (clip.norm, clip.limit))
            if step.reading is not None:
                yield from step.reading.losses
            if step.probed is not None:
                yield from (scalar for _, _, scalar in step.probed.waiting)

    def cut(self, step: int, event: int) -> Iteration:
        """Split off everything from this step and this event on as an iteration of its own."""
        rest = Iteration(self.events[event:], self.steps[step:], self.compared)
        del self.events[event:], self.steps[step:]
        self.compared = []
        return rest

    def has_stepped(self, optimizer: int) -> bool:
        """Return whether this optimizer has made its step in this iteration."""
        return any(step.optimizer == optimizer for step in self.steps)


def states(values: Values, present: Sequence[bool] | None, numels: IntArray) -> StateArray:
    """Return the state of each gradient from its statistics; NaN where it could not be measured.
    `present` is `None` where all gradients exist.
    """
    if present is None:
        # Fast path for healthy steps. NaN is truthy, so unmeasured counts take the slow path.
        if not values["nonfinite"].any() and not (values["zeros"] == numels).any():
            # NumPy swallows exceptions raised while it looks into an enum
            return np.full(len(numels), int(State.FINITE), np.uint8)
        present = [True] * len(numels)
    state = np.full(len(present), int(State.ABSENT), np.uint8)
    there = np.asarray(present, bool)
    measured = there & ~np.isnan(values["nonfinite"])
    state[there] = int(State.NOT_MEASURED)
    state[measured] = int(State.FINITE)
    state[measured & (values["zeros"] == numels)] = int(State.ZERO)
    state[measured & (values["nonfinite"] > 0)] = int(State.NONFINITE)
    return state
