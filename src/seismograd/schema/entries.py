"""Events of the record: calls, steps, processes and pairs of losses."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np

from seismograd.schema.arrays import AnyArray


class EventKind(IntEnum):
    """A call that the session intercepted."""

    BACKWARD = 1
    CLIP = 2
    ZERO_GRAD = 3
    STEP = 4
    UNSCALE = 5
    SCALER_UPDATE = 6


class EventFlag(IntFlag):
    """Details of an event."""

    NONE = 0
    CLOSURE = 1  # within a step that evaluates the loss itself; STEP: it is one
    # BACKWARD: its graph shares operations with that of an earlier backward of the window: another
    # loss of the same forward
    SHARED = 2
    # CLIP, ZERO_GRAD, STEP: no backward has added to these gradients since a step used them
    USED = 4
    EMPTY = 8  # CLIP, ZERO_GRAD, STEP: there were no gradients
    SUMMED = 16  # BACKWARD: the loss is a sum over samples, or over several terms, not a mean
    RESCALED = 32  # BACKWARD: the script multiplied or divided the loss by a number
    FUSED = 64  # STEP: the optimizer divides by the scale itself
    # BACKWARD, CLIP, ZERO_GRAD: of a later evaluation within the step than the recorded one, which
    # is the first
    AGAIN = 128
    SEVERAL = 256  # BACKWARD: the loss is a sum of terms that each have a graph
    OTHER_NORM = 512  # CLIP: by another norm than L2
    # BACKWARD: it adds to what an earlier evaluation within the step has computed, although the
    # step has changed the weights since
    KEPT = 1024


class Origin(IntEnum):
    """Where a non-finite loss came from, as far as the operations behind it show."""

    UNKNOWN = 0
    INPUT = 1  # the model's input
    WEIGHT = 2
    ACTIVATION = 3  # an operation whose operands were finite
    LOSS = 4  # the last operation


EVENT_DTYPE = np.dtype(
    [
        ("iteration", "<i8"),  # the iteration it happened in
        ("time_s", "<f8"),  # seconds since the run began
        # BACKWARD: the loss, unscaled; CLIP: total norm before; STEP: learning rate; UNSCALE,
        # SCALER_UPDATE: scale
        ("value", "<f8"),
        ("limit", "<f8"),  # CLIP: the limit; STEP: the lowest learning rate of any group
        # BACKWARD: the factor the loss was multiplied by; CLIP, STEP: that the gradients still
        # carry; 1: none
        ("scale", "<f8"),
        # BACKWARD: how many scalars (samples, tokens) the loss is a mean or a sum over; NaN: not
        # shown, or not inspected
        ("count", "<f8"),
        # BACKWARD: the weight of each of them in the loss, 1/count in a plain mean; NaN likewise
        ("weight", "<f8"),
        # bit i: BACKWARD added to, CLIP changed, ZERO_GRAD cleared gradients of optimizer i (of the
        # first 64)
        ("touched", "<u8"),
        ("site", "<i4"),  # index into the run's sites
        ("optimizer", "<i2"),  # index into the run's optimizers, -1 when it concerns none or all
        ("flags", "<u2"),  # EventFlag
        ("kind", "u1"),  # EventKind
        # CLIP: 1 norm, 2 value, 3 unit; ZERO_GRAD: 1 optimizer, 2 module; BACKWARD: Origin of a
        # loss that is not finite
        ("detail", "u1"),
    ]
)


def event_entry(
    *,
    iteration: int,
    time_s: float,
    value: float,
    limit: float,
    scale: float,
    count: float,
    weight: float,
    touched: int,
    site: int,
    optimizer: int,
    flags: int,
    kind: int,
    detail: int,
) -> tuple[object, ...]:
    """Return an event as an entry of EVENT_DTYPE, as a tuple: setting one field of an array after
    the other takes ten times as long.
    """
    return (
        iteration,
        time_s,
        value,
        limit,
        scale,
        count,
        weight,
        touched,
        site,
        optimizer,
        flags,
        kind,
        detail,
    )


class StepFlag(IntFlag):
    """Details of an iteration."""

    NONE = 0
    SKIPPED = 1  # the GradScaler skipped the update, or the guard left it out
    NO_BACKWARD = 2  # a step on no gradient, or on the very one that the previous step used
    BY_HAND = 4  # no optimizer: the weights were changed manually
    CHANGED = 8  # an unknown call changed the gradients between backward and step
    NO_LOSS = 16  # the loss could not be read: it is NaN for "not measured"
    UNHEARD = 32  # backward was compiled: neither it nor a clip within it could be intercepted
    GUARDED = 64  # the guard left out an update; with SKIPPED: no other was made
    # what the gradients were computed at is a copy of what an optimizer trains, which was given the
    # weights after the optimizer's step, as a worker of A3C is
    COPIED = 128


STEP_DTYPE = np.dtype(
    [
        # from 0; the axis that all optimizers share, called step wherever a user reads it
        ("iteration", "<i8"),
        ("step", "<i8"),  # number of this step of its optimizer, from 0
        ("time_s", "<f8"),  # seconds since the run began
        # sum of the losses backpropagated into the gradient, unscaled; NaN: it was NaN, or NO_LOSS
        # is set
        ("loss", "<f8"),
        ("lr", "<f8"),  # learning rate of the first group
        # L2 norm over all measured parameters; NaN: non-finite, or nothing measured
        ("grad_norm", "<f8"),
        ("scale", "<f8"),  # loss scale that was divided out (1: none)
        ("clip_norm", "<f8"),  # total norm that the clip saw, unscaled; NaN: no clip
        ("clip_limit", "<f8"),  # its limit; NaN: no clip
        # what a clip by norm multiplied the gradients by, 1 where it did not bind; NaN: no clip by
        # norm
        ("clip_coefficient", "<f8"),
        # L2 norm of what the optimizers consumed; NaN: nothing, or not measured
        ("applied_norm", "<f8"),
        # seconds spent inside seismograd in this iteration; threads that train at once take turns
        ("overhead_s", "<f8"),
        ("optimizer", "<i4"),  # the first optimizer that stepped; -1: none
        ("num_steps", "<i4"),  # optimizers that stepped in this iteration
        ("num_backwards", "<i4"),  # backwards that added to the gradient
        ("epoch", "<i4"),  # as set by `session.epoch`; -1: not set
        ("flags", "<u4"),  # StepFlag
        ("sampled", "<u4"),  # 1 where the sampled statistics were measured
    ]
)


def step_entry(
    *,
    iteration: int,
    step: int,
    time_s: float,
    loss: float,
    lr: float,
    grad_norm: float,
    scale: float,
    clip_norm: float,
    clip_limit: float,
    clip_coefficient: float,
    applied_norm: float,
    overhead_s: float,
    optimizer: int,
    num_steps: int,
    num_backwards: int,
    epoch: int,
    flags: int,
    sampled: bool,
) -> tuple[object, ...]:
    """Return an iteration as an entry of STEP_DTYPE, as a tuple likewise."""
    return (
        iteration,
        step,
        time_s,
        loss,
        lr,
        grad_norm,
        scale,
        clip_norm,
        clip_limit,
        clip_coefficient,
        applied_norm,
        overhead_s,
        optimizer,
        num_steps,
        num_backwards,
        epoch,
        flags,
        sampled,
    )


class RankFlag(IntFlag):
    """Details of one of several processes in an iteration."""

    NONE = 0
    REPORTED = 1  # if not set, the process was late or gone, and nothing else is known
    LOCAL = 2  # gradients were inspected before they were averaged with those of the others
    LOCAL_ALL = 4  # those of all parameters, not only of some
    CHECKSUM = 8  # the weight checksum was computed


RANK_DTYPE = np.dtype(
    [
        ("iteration", "<i8"),
        ("rank", "<i4"),
        # the lowest rank that holds the same parts of the same parameters; -1: not known
        ("replica_of", "<i4"),
        ("loss", "<f8"),  # its own
        ("grad_norm", "<f8"),  # L2 norm of what it holds of the ready gradient
        # of its gradients before the reduction, as far as they were inspected; NaN: not, or
        # non-finite
        ("local_norm", "<f8"),
        ("local_nonfinite", "<i8"),  # scalars in them that are NaN or infinite
        ("weight_checksum", "<u8"),  # equal for equal weights; 0 where not computed
        # total norm that its clip used; NaN: no clip, or a part of the norm of sharded gradients
        ("clip_norm", "<f8"),
        # what all its gradients were multiplied by, in a clip or by hand; NaN: not known
        ("clip_coefficient", "<f8"),
        ("flags", "<u4"),  # RankFlag
    ]
)


PAIR_DTYPE = np.dtype(
    [
        ("iteration", "<i8"),
        ("parameter", "<i4"),  # column; -1: over all parameters that both losses reach
        # index into the run's sites: where this loss is backpropagated, or a loss that the script
        # names
        ("first", "<i4"),
        ("second", "<i4"),
        ("first_norm", "<f8"),  # L2 norm of the gradient of this loss alone
        ("second_norm", "<f8"),
        ("cosine", "<f8"),  # between the two; NaN where one is zero or not finite
    ]
)


def no_ranks() -> AnyArray:
    """Return the empty rank entries of a single process."""
    return np.empty(0, RANK_DTYPE)


def no_pairs() -> AnyArray:
    """Return the empty pair entries of losses that were not compared."""
    return np.empty(0, PAIR_DTYPE)
