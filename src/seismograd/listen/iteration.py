"""One iteration in the making: the calls that were heard in it and what was read of its gradients, until it becomes a `Row`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.listen.applied import Clip, after_clips
from seismograd.listen.loss import Reduction
from seismograd.listen.pairs import Compared
from seismograd.listen.probe import UNMOVED, UPDATE_RATIO, Probed
from seismograd.listen.scalars import Scalar
from seismograd.schema import (
    EVENT_DTYPE,
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    EventKind,
    FloatArray,
    IntArray,
    Parameter,
    Row,
    State,
    StateArray,
    StepFlag,
    no_pairs,
)

Values = Mapping[str, FloatArray]


@dataclass(slots=True)
class Heard:
    """A call, with numbers that may still be on a device."""

    kind: int
    time_s: float
    site: int
    optimizer: int = -1
    value: Scalar = field(default_factory=lambda: Scalar(math.nan))
    scale: Scalar | None = None  # what the loss or the gradients are multiplied by
    limit: Scalar = field(default_factory=lambda: Scalar(math.nan))
    detail: int = 0
    reduction: Reduction | None = None
    touched: int = 0
    flags: int = 0

    def record(self, iteration: int) -> tuple[object, ...]:
        """As an entry of EVENT_DTYPE; numbers still on a device are waited for."""
        scale = 1.0 if self.scale is None else self.scale.read()
        return (
            iteration,
            self.time_s,
            self.value.read() / scale if self.kind == EventKind.BACKWARD else self.value.read(),
            self.limit.read(),
            scale,
            math.nan if self.reduction is None else self.reduction.count.read(),
            math.nan if self.reduction is None else self.reduction.weight.read() / scale,
            self.touched,
            self.site,
            self.optimizer,
            self.flags | (0 if self.reduction is None else self.reduction.flags),
            self.kind,
            self.detail,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """The ready gradients of one optimizer as they were read  # (n,) each, still multiplied by `scale`."""

    columns: IntArray
    state: StateArray
    values: Values
    samples: Values
    elements: FloatArray  # (E,)
    scale: Scalar | None
    losses: tuple[Scalar, ...]
    loss_scale: Scalar | None


@dataclass(slots=True)
class Stepped:
    """One step of one optimizer in this iteration."""

    optimizer: int
    number: int
    lr: Scalar
    num_backwards: int
    flags: StepFlag
    carried: IntArray  # columns
    clips: tuple[Clip, ...] = ()
    reading: Reading | None = None
    applied: Reading | None = None  # read again, where the clips do not tell what was consumed
    probed: Probed | None = None

    def applied_norm(self) -> FloatArray:
        """The norms of what was consumed, for the columns of `reading`  # (n,); NaN when nothing was."""
        assert self.reading is not None
        columns = self.reading.columns
        if self.flags & StepFlag.SKIPPED:
            return np.full(len(columns), np.nan)
        if self.applied is not None and np.array_equal(self.applied.columns, columns):
            return unscaled(self.applied.values, self.applied.scale)["grad_norm"]
        return after_clips(unscaled(self.reading.values, self.reading.scale)["grad_norm"], columns, self.clips)


def divided(values: Values, scale: float) -> dict[str, FloatArray]:
    """The statistics of g/scale from those of g."""
    by = {"grad_norm": scale, "grad_max": scale, "grad_sum": scale}
    result = {name: value / by[name] if name in by else value for name, value in values.items()}
    if "exponents" in result:
        shift = round(math.log2(scale) / HISTOGRAM_EXPONENTS_PER_BIN)
        shifted = np.zeros_like(result["exponents"])
        for source in range(HISTOGRAM_BINS):
            shifted[:, min(max(source - shift, 0), HISTOGRAM_BINS - 1)] += result["exponents"][:, source]
        result["exponents"] = shifted
    return result


def unscaled(values: Values, scale: Scalar | None) -> Values:
    """The statistics with the loss scale divided out, where there is one."""
    factor = 1.0 if scale is None else scale.read()
    return values if factor == 1.0 or not math.isfinite(factor) or factor <= 0 else divided(values, factor)


@dataclass(slots=True)
class Iteration:
    """What is known of the iteration so far. It gets its number when it is over: another thread may be in one of its own."""

    events: list[Heard] = field(default_factory=list[Heard])
    steps: list[Stepped] = field(default_factory=list[Stepped])
    compared: list[Compared] = field(default_factory=list[Compared])
    overhead_s: float = 0.0

    def has_stepped(self, optimizer: int) -> bool:
        """Whether this optimizer has made its step in this iteration."""
        return any(step.optimizer == optimizer for step in self.steps)

    def row(self, number: int, parameters: tuple[Parameter, ...], num_elements: int, epoch: int) -> Row:
        """The iteration as it is recorded, as number `number`; numbers still on a device are waited for."""
        state = np.full(len(parameters), State.NOT_MEASURED, np.uint8)
        values = {s.name: _blank(s.name, len(parameters), s.width) for s in STATISTICS if not s.sampled}
        samples: dict[str, FloatArray] = {}
        elements = np.full(num_elements, np.nan)
        for step in self.steps:
            if step.reading is not None:
                _place(step, step.reading, state, values, samples, elements)
            values["carried"][step.carried] = 1
            if step.probed is not None and not step.flags & StepFlag.SKIPPED:
                _place_probed(step.probed, values)
        record = self._step(number, state, values, bool(samples), epoch)
        return Row(parameters, record, state, values, samples, self._events(number), elements, pairs=self._pairs(number))

    def _step(self, number: int, state: StateArray, values: dict[str, FloatArray], sampled: bool, epoch: int) -> AnyArray:
        step = np.zeros((), STEP_DTYPE)
        first = self.steps[0]
        step["iteration"], step["step"], step["optimizer"] = number, first.number, first.optimizer
        step["time_s"] = self.events[-1].time_s if self.events else math.nan
        step["loss"] = self._loss()
        step["lr"] = first.lr.read()
        step["grad_norm"] = total(values["grad_norm"], state >= State.ZERO)
        step["applied_norm"] = total(values["applied_norm"], ~np.isnan(values["applied_norm"]) | (state == State.NONFINITE))
        scale = next((s.reading.loss_scale for s in self.steps if s.reading is not None and s.reading.loss_scale is not None), None)
        step["scale"] = 1.0 if scale is None else scale.read()
        clip = next((s.clips[0] for s in self.steps if s.clips), None)
        step["clip_norm"] = math.nan if clip is None else clip.norm.read()
        step["clip_limit"] = math.nan if clip is None else clip.limit.read()
        step["clip_coefficient"] = clip.coefficient() if clip is not None and clip.by_norm else math.nan
        step["overhead_s"] = self.overhead_s
        step["num_steps"] = len(self.steps)
        step["num_backwards"] = max(s.num_backwards for s in self.steps)
        step["epoch"] = epoch
        step["flags"] = self._flags()
        step["sampled"] = sampled
        return step

    def _flags(self) -> int:
        """`SKIPPED` when no optimizer of the iteration stepped; the others when they hold for any."""
        flags = StepFlag.NONE
        if all(step.flags & StepFlag.SKIPPED for step in self.steps):
            flags |= StepFlag.SKIPPED
        for step in self.steps:
            flags |= step.flags & ~StepFlag.SKIPPED
        losses = [loss for step in self.steps if step.reading is not None for loss in step.reading.losses]
        if not losses or not all(loss.known for loss in losses):
            flags |= StepFlag.NO_LOSS
        return int(flags)

    def _loss(self) -> float:
        """Sum of the losses behind the gradients, each once, though several optimizers may share it."""
        losses: dict[int, float] = {}
        for step in self.steps:
            if step.reading is not None:
                scale = 1.0 if step.reading.loss_scale is None else step.reading.loss_scale.read()
                losses.update({id(loss): loss.read() / scale for loss in step.reading.losses})
        return math.nan if not losses else sum(losses.values())

    def _pairs(self, number: int) -> AnyArray:
        return np.concatenate([compared.record(number) for compared in self.compared]) if self.compared else no_pairs()

    def _events(self, number: int) -> AnyArray:
        return np.array([event.record(number) for event in self.events], EVENT_DTYPE)


def _blank(name: str, num_parameters: int, width: int) -> FloatArray:
    shape = (num_parameters,) if width == 1 else (num_parameters, width)
    return np.zeros(shape) if name == "carried" else np.full(shape, np.nan)


def total(norms: FloatArray, which: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """The L2 norm over several gradients from the norm of each; NaN when there is none, or one is not finite."""
    chosen = norms[which]
    return math.hypot(*chosen.tolist()) if len(chosen) and np.isfinite(chosen).all() else math.nan


def _place(
    step: Stepped,
    reading: Reading,
    state: StateArray,
    values: dict[str, FloatArray],
    samples: dict[str, FloatArray],
    elements: FloatArray,
) -> None:
    """Put a reading into its columns; what another optimizer of the iteration already put there stays."""
    free = state[reading.columns] == State.NOT_MEASURED
    columns = reading.columns[free]
    state[columns] = reading.state[free]
    for name, value in unscaled(reading.values, reading.scale).items():
        values[name][columns] = value[free]
    values["applied_norm"][columns] = step.applied_norm()[free]
    for name, value in unscaled(reading.samples, reading.scale).items():
        target = samples.setdefault(name, np.full((len(state), *value.shape[1:]), np.nan))
        target[columns] = value[free]
    scale = 1.0 if reading.scale is None else reading.scale.read()
    fresh = np.isnan(elements)
    elements[fresh] = (reading.elements / scale)[fresh]


def _place_probed(probed: Probed, values: dict[str, FloatArray]) -> None:
    """What a step changed, into its columns; what the step of another optimizer of the iteration put there stays."""
    numbers = probed.settled()
    for place, column in enumerate(probed.columns):
        if column >= 0 and np.isnan(values["update_ratio"][column]):
            values["update_ratio"][column] = numbers[UPDATE_RATIO, place]
            values["unmoved"][column] = numbers[UNMOVED, place]


def states(values: Values, present: Sequence[bool], numels: IntArray) -> StateArray:
    """The state of each gradient from its statistics; NaN where it could not be measured."""
    state = np.full(len(present), State.ABSENT, np.uint8)
    there = np.asarray(present, bool)
    measured = there & ~np.isnan(values["nonfinite"])
    state[there] = State.NOT_MEASURED
    state[measured] = State.FINITE
    state[measured & (values["zeros"] == numels)] = State.ZERO
    state[measured & (values["nonfinite"] > 0)] = State.NONFINITE
    return state
