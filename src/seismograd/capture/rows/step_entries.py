"""The numbers of each iteration as a whole, as entries of STEP_DTYPE, and those of its calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seismograd.capture.loop.iteration import SKIPPED, Iteration
from seismograd.capture.rows.column_arrays import RowColumns
from seismograd.measure.native import tensor_reads
from seismograd.schema import (
    EVENT_DTYPE,
    STEP_DTYPE,
    AnyArray,
    BoolArray,
    FloatArray,
    State,
    StepFlag,
    step_entry,
)
from seismograd.tensors.device_scalars import TotalWeight

# arithmetic on flags takes a microsecond, on numbers none
NO_LOSS = int(StepFlag.NO_LOSS)
ZERO, NONFINITE = int(State.ZERO), int(State.NONFINITE)


def event_entries(iterations: Sequence[Iteration]) -> AnyArray:
    """Return the entries of EVENT_DTYPE of all calls of these iterations, in order."""
    found = tensor_reads.event_entries(list(iterations))
    if found:
        return np.frombuffer(found, EVENT_DTYPE)
    events = [
        event.record(iteration.number) for iteration in iterations for event in iteration.events
    ]
    return np.array(events, EVENT_DTYPE)


def step_entries(iterations: Sequence[Iteration], columns: RowColumns) -> AnyArray:
    """Return an entry for each of the iterations whose columns these are."""
    state, values = columns.state, columns.values
    ready, applied = values["grad_norm"], values["applied_norm"]
    there = state >= ZERO
    norms = (
        # Nearly always, and quicker than row by row.
        [math.hypot(*row) for row in ready.tolist()]
        if there.all() and np.isfinite(ready).all() and ready.shape[1]
        else [total(*row) for row in zip(ready, there, strict=True)]
    )
    used = norms
    if applied is not ready:
        known = ~np.isnan(applied) | (state == NONFINITE)
        used = [total(*row) for row in zip(applied, known, strict=True)]
    found = tensor_reads.step_entries(list(iterations), norms, used, columns.sample_rows)
    if found is not None:
        return np.frombuffer(found, STEP_DTYPE)
    sampled = set(columns.sample_rows)
    entries = [
        step_entry_of(iteration, norms[row], used[row], row in sampled)
        for row, iteration in enumerate(iterations)
    ]
    return np.array(entries, STEP_DTYPE)


def step_entry_of(
    iteration: Iteration, grad_norm: float, applied_norm: float, sampled: bool
) -> tuple[object, ...]:
    """Return the numbers of the iteration as a whole, as an entry of STEP_DTYPE."""
    first, scale, clip, num_backwards = iteration.steps[0], None, None, 0
    for step in iteration.steps:  # a loop: generators would be more calls
        if scale is None and step.reading is not None:
            scale = step.reading.loss_scale
        if clip is None and step.clips:
            clip = step.clips[0]
        if step.num_backwards > num_backwards:
            num_backwards = step.num_backwards
    clip_norm = clip_limit = clip_coefficient = math.nan
    if clip is not None:
        clip_norm, clip_limit = clip.norm.read(), clip.limit.read()
        if clip.by_norm:
            clip_coefficient = clip.coefficient()
    return step_entry(
        iteration=iteration.number,
        step=first.number,
        time_s=iteration.events[-1].time_s if iteration.events else math.nan,
        loss=_loss(iteration),
        lr=first.lr.read(),
        grad_norm=grad_norm,
        scale=1.0
        if scale is None
        else scale.loss_scale
        if isinstance(scale, TotalWeight)
        else scale.read(),
        clip_norm=clip_norm,
        clip_limit=clip_limit,
        clip_coefficient=clip_coefficient,
        applied_norm=applied_norm,
        overhead_s=iteration.overhead_s,
        optimizer=first.optimizer,
        num_steps=len(iteration.steps),
        num_backwards=num_backwards,
        epoch=-1 if iteration.epoch is None else iteration.epoch,
        flags=_flags(iteration),
        sampled=sampled,
    )


def _flags(iteration: Iteration) -> int:
    """Return the flags: `SKIPPED` when no optimizer of the iteration stepped; the others when they
    hold for any.
    """
    flags, skipped, known = 0, SKIPPED, False
    for step in iteration.steps:
        flags |= int(step.flags) & ~SKIPPED
        skipped &= int(step.flags)
        if step.reading is not None:
            for loss in step.reading.losses:
                known = True
                if not loss.known:
                    flags |= NO_LOSS
    return flags | skipped | (0 if known else NO_LOSS)


def _loss(iteration: Iteration) -> float:
    """Return the sum of the losses behind the gradients, each once, though several optimizers may
    share it.
    """
    losses: dict[int, float] = {}
    for step in iteration.steps:
        if step.reading is not None:
            scale = 1.0 if step.reading.loss_scale is None else step.reading.loss_scale.read()
            for loss in step.reading.losses:
                losses[id(loss)] = loss.read() / scale
    return math.nan if not losses else sum(losses.values())


def total(norms: FloatArray, which: BoolArray) -> float:
    """Return the L2 norm over several gradients from the norm of each; NaN when there is none, or
    one is not finite.
    """
    chosen = norms if which.all() else norms[which]
    return math.hypot(*chosen.tolist()) if len(chosen) and np.isfinite(chosen).all() else math.nan
