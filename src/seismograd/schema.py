"""The values that everybody shares: what is measured, what happened, what was found.

Shapes: T recorded iterations, B consecutive ones in a block, S of them sampled, P parameters, W numbers per parameter, E elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seismograd.i18n import Message

SCHEMA_VERSION = 1

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
StateArray = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]


class State(IntEnum):
    """What a value is; four states of a gradient that are never mixed, and `NOT_MEASURED`."""

    NOT_MEASURED = 0
    ABSENT = 1
    ZERO = 2
    FINITE = 3
    NONFINITE = 4


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number (or `width` numbers) per parameter, of the ready gradient unless `description` says otherwise.

    `dtype` is the NumPy dtype it is recorded in; `sampled` ones are measured on every tenth iteration only.
    """

    name: str
    dtype: str
    unit: str
    description: str
    sampled: bool = False
    width: int = 1


HISTOGRAM_BINS = 64
HISTOGRAM_FIRST_EXPONENT = -96
HISTOGRAM_EXPONENTS_PER_BIN = 2

STATISTICS = (
    Statistic("grad_norm", "<f8", "1", "L2 norm of the gradient, summed in double precision"),
    Statistic("grad_max", "<f4", "1", "largest |g|"),
    Statistic("grad_sum", "<f4", "1", "sum of the gradient's scalars"),
    Statistic("zeros", "<u4", "scalars", "scalars that are exactly zero"),
    Statistic("nonfinite", "<u4", "scalars", "scalars that are NaN or infinite"),
    Statistic("applied_norm", "<f4", "1", "L2 norm of what the optimizer consumed: after unscale, clip and anything done by hand"),
    Statistic("carried", "<u1", "0/1", "1 where the gradient still held what an earlier step had already used"),
    Statistic("update_ratio", "<f4", "1", "norm of the update / norm of the weights, over the probed scalars; NaN where it was not probed"),
    Statistic("unmoved", "<f4", "share", "probed scalars with a gradient that the update did not change / those with one; NaN: not probed"),
    Statistic("weight_norm", "<f8", "1", "L2 norm of the weights before the update", sampled=True),
    Statistic(
        "dead_rows",
        "<f4",
        "rows",
        "rows whose gradient was zero at every iteration since the last sample; NaN where rows are split over processes",
        sampled=True,
    ),
    Statistic(
        "exponents",
        "<u4",
        "scalars",
        "scalars by binary exponent: bin b holds 2^(2b-96) <= |g| < 2^(2b-94), the ends all beyond; without zero and non-finite",
        sampled=True,
        width=HISTOGRAM_BINS,
    ),
)

SAMPLE_EVERY = 10


class EventKind(IntEnum):
    """A call that the session heard."""

    BACKWARD = 1
    CLIP = 2
    ZERO_GRAD = 3
    STEP = 4
    UNSCALE = 5
    SCALER_UPDATE = 6


class EventFlag(IntFlag):
    """What was special about an event."""

    NONE = 0
    CLOSURE = 1  # BACKWARD, STEP: within a step that evaluates the loss itself
    SHARED = 2  # BACKWARD: its graph shares operations with that of an earlier backward of the window: another loss of the same forward
    USED = 4  # CLIP, ZERO_GRAD, STEP: no backward has added to these gradients since a step used them
    EMPTY = 8  # CLIP, ZERO_GRAD, STEP: there were no gradients
    SUMMED = 16  # BACKWARD: the loss is a sum over samples, or over several terms, not a mean
    RESCALED = 32  # BACKWARD: the script multiplied or divided the loss by a number
    FUSED = 64  # STEP: the optimizer divides by the scale itself


class Origin(IntEnum):
    """Where a loss that is not finite came from, as far as the operations behind it show."""

    UNKNOWN = 0
    INPUT = 1  # what the model was given
    WEIGHT = 2
    ACTIVATION = 3  # an operation whose operands were finite
    LOSS = 4  # the last operation


EVENT_DTYPE = np.dtype(
    [
        ("iteration", "<i8"),  # the iteration it happened in
        ("time_s", "<f8"),  # seconds since the run began
        ("value", "<f8"),  # BACKWARD: the loss, unscaled; CLIP: total norm before; STEP: learning rate; UNSCALE, SCALER_UPDATE: scale
        ("limit", "<f8"),  # CLIP: the limit; STEP: the lowest learning rate of any group
        ("scale", "<f8"),  # BACKWARD: what the loss was multiplied by; CLIP, STEP: what the gradients still are; 1: nothing
        ("count", "<f8"),  # BACKWARD: how many scalars (samples, tokens) the loss is a mean or a sum over; NaN: not shown, or not looked at
        ("weight", "<f8"),  # BACKWARD: what each of them counts in the loss, 1/count in a plain mean; NaN likewise
        ("touched", "<u8"),  # bit i: BACKWARD added to, CLIP changed, ZERO_GRAD cleared gradients of optimizer i (of the first 64)
        ("site", "<i4"),  # index into the run's sites
        ("optimizer", "<i2"),  # index into the run's optimizers, -1 when it concerns none or all
        ("flags", "<u2"),  # EventFlag
        ("kind", "u1"),  # EventKind
        ("detail", "u1"),  # CLIP: 1 norm, 2 value, 3 unit; ZERO_GRAD: 1 optimizer, 2 module; BACKWARD: Origin of a loss that is not finite
    ]
)


class StepFlag(IntFlag):
    """What was special about an iteration."""

    NONE = 0
    SKIPPED = 1  # the GradScaler skipped the update
    NO_BACKWARD = 2  # a step on no gradient, or on the very one that the step before had used
    BY_HAND = 4  # no optimizer: the weights were changed by hand
    CHANGED = 8  # something unknown changed the gradients between backward and step
    NO_LOSS = 16  # the loss could not be read: it is NaN for "not measured"


STEP_DTYPE = np.dtype(
    [
        ("iteration", "<i8"),  # from 0; the axis that all optimizers share, called step wherever a user reads it
        ("step", "<i8"),  # number of this step of its optimizer, from 0
        ("time_s", "<f8"),  # seconds since the run began
        ("loss", "<f8"),  # sum of the losses backpropagated into the gradient, unscaled; NaN: so it was, or NO_LOSS is set
        ("lr", "<f8"),  # learning rate of the first group
        ("grad_norm", "<f8"),  # L2 norm over all measured parameters; NaN: non-finite, or nothing measured
        ("scale", "<f8"),  # loss scale that was divided out (1: none)
        ("clip_norm", "<f8"),  # total norm that the clip saw, unscaled; NaN: no clip
        ("clip_limit", "<f8"),  # its limit; NaN: no clip
        ("clip_coefficient", "<f8"),  # what a clip by norm multiplied the gradients by, 1 where it did not bind; NaN: no clip by norm
        ("applied_norm", "<f8"),  # L2 norm of what the optimizers consumed; NaN: nothing, or not measured
        ("overhead_s", "<f8"),  # seconds spent inside seismograd in this iteration
        ("optimizer", "<i4"),  # the first optimizer that stepped; -1: none
        ("num_steps", "<i4"),  # optimizers that stepped in this iteration
        ("num_backwards", "<i4"),  # backwards that added to the gradient
        ("epoch", "<i4"),  # as told by `session.epoch`; -1: not told
        ("flags", "<u4"),  # StepFlag
        ("sampled", "<u4"),  # 1 where the sampled statistics were measured
    ]
)


class RankFlag(IntFlag):
    """What is known of one process of several in an iteration."""

    NONE = 0
    REPORTED = 1  # without it the process was late or gone, and nothing else is known
    LOCAL = 2  # gradients were looked at before they were averaged with those of the others
    LOCAL_ALL = 4  # those of all parameters, not only of some
    CHECKSUM = 8  # the weights were summed


RANK_DTYPE = np.dtype(
    [
        ("iteration", "<i8"),
        ("rank", "<i4"),
        ("replica_of", "<i4"),  # the lowest rank that holds the same parts of the same parameters; -1: not known
        ("loss", "<f8"),  # its own
        ("grad_norm", "<f8"),  # L2 norm of what it holds of the ready gradient
        ("local_norm", "<f8"),  # of its gradients before the reduction, as far as they were looked at; NaN: not, or non-finite
        ("local_nonfinite", "<i8"),  # scalars in them that are NaN or infinite
        ("weight_checksum", "<u8"),  # equal for equal weights; 0 where they were not summed
        ("flags", "<u4"),  # RankFlag
    ]
)


PAIR_DTYPE = np.dtype(
    [
        ("iteration", "<i8"),
        ("parameter", "<i4"),  # column; -1: over all parameters that both losses reach
        ("first", "<i4"),  # index into the run's sites: where this loss is backpropagated, or a loss that the script names
        ("second", "<i4"),
        ("first_norm", "<f8"),  # L2 norm of the gradient of this loss alone
        ("second_norm", "<f8"),
        ("cosine", "<f8"),  # between the two; NaN where one is zero or not finite
    ]
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One column of the record.

    `depth` is its place in the order of execution (0 is nearest the input), `None` when the graph did not show it. `module` is the class
    name of the module that holds it, `optimizer` and `group` index what updates it. `activation` is the function that its output goes
    through next (`"relu"`, `"sigmoid"`, as the graph calls it), empty when none was seen. `compute_dtype` is the dtype of the operation
    that reads it, where autocast made that another one. `registered`: a module has it among its parameters; else only the graph of a loss
    showed it. `frozen_in_name`: `requires_grad = False` was set on a module that holds it, which does nothing.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    module: str = ""
    aliases: tuple[str, ...] = ()
    depth: int | None = None
    trainable: bool = True
    optimizer: int | None = None
    group: int | None = None
    activation: str = ""
    compute_dtype: str = ""
    registered: bool = True
    frozen_in_name: bool = False


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer that stepped: its index in the run, its class, the name it has in the script when one was found."""

    index: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the user's code. `label` is what the script calls the loss that is backpropagated there, when it says so."""

    file: str
    line: int
    function: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def no_ranks() -> AnyArray:
    """What there is to say of several processes when there is one."""
    return np.empty(0, RANK_DTYPE)


def no_pairs() -> AnyArray:
    """What there is to say of pairs of losses when they were not compared."""
    return np.empty(0, PAIR_DTYPE)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive iterations with the same parameters: what sinks and rules read.

    `values` holds each statistic of every iteration  # (B, P); `samples` the sampled ones  # (S, P) or (S, P, W), at the iterations whose
    row numbers within the block are `sample_rows`  # (S,). A number is meaningful only where `state`  # (B, P) is not NOT_MEASURED or
    ABSENT. `events` are those of these iterations in order; `sites` and `optimizers` are what their indices point into.
    """

    parameters: tuple[Parameter, ...]
    steps: AnyArray
    state: StateArray
    values: Mapping[str, AnyArray]
    sample_rows: IntArray
    samples: Mapping[str, AnyArray]
    events: AnyArray
    elements: FloatArray  # (B, E); NaN: not measured
    sites: Sequence[Site]
    optimizers: Sequence[Optimizer]
    ranks: AnyArray = field(default_factory=no_ranks)  # RANK_DTYPE, in the order of iterations; empty for a single process
    pairs: AnyArray = field(default_factory=no_pairs)  # PAIR_DTYPE, in the order of iterations

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Row:
    """One iteration as the session hands it over: the arrays of a `Block` without their first axis.

    `samples` is empty when the sampled statistics were not measured in this iteration.
    """

    parameters: tuple[Parameter, ...]
    step: AnyArray  # 0-d, STEP_DTYPE
    state: StateArray
    values: Mapping[str, AnyArray]
    samples: Mapping[str, AnyArray]
    events: AnyArray
    elements: FloatArray
    ranks: AnyArray = field(default_factory=no_ranks)
    pairs: AnyArray = field(default_factory=no_pairs)


@dataclass(frozen=True, slots=True)
class Rows:
    """Several iterations with the same parameters, as the session hands them over together: the arrays of a `Block`, as of `Row`s."""

    parameters: tuple[Parameter, ...]
    steps: AnyArray  # (B,), STEP_DTYPE
    state: StateArray  # (B, P)
    values: Mapping[str, AnyArray]  # (B, P) each
    sample_rows: IntArray  # (S,)
    samples: Mapping[str, AnyArray]  # (S, P) or (S, P, W); empty where none was sampled
    events: AnyArray
    elements: FloatArray  # (B, E)
    ranks: AnyArray = field(default_factory=no_ranks)
    pairs: AnyArray = field(default_factory=no_pairs)

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def of(cls, row: Row) -> Rows:
        """A single one."""
        return cls(
            row.parameters,
            row.step.reshape(1),
            row.state[None],
            {name: value[None] for name, value in row.values.items()},
            np.zeros(1 if row.samples else 0, np.int64),
            {name: value[None] for name, value in row.samples.items()},
            row.events,
            row.elements[None],
            row.ranks,
            row.pairs,
        )


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened once and has words: a failure of ours, thinning, an element that does not exist, the end.

    Rules read notes of kind `"tail"`: `count` backwards at the end that `optimizer` never used, the last of them at `where`.
    """

    kind: str
    iteration: int
    message: Message
    count: int = 0
    optimizer: int = -1
    where: str = ""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known of a run before its first step."""

    script: str
    created_utc: str  # ISO 8601
    seismograd_version: str
    torch_version: str
    python_version: str
    level: str
    every: int
    elements: tuple[str, ...] = ()


class Sink(Protocol):
    """Where a session sends what it measured, in order, from one thread."""

    def observe(self, block: Block) -> None:
        """Take the next iterations."""
        ...

    def note(self, note: Note) -> None:
        """Take a note."""
        ...

    def close(self) -> None:
        """The run is over; nothing comes after this."""
        ...

    def abandon(self) -> None:
        """It failed and gets nothing more: let go of what is held."""
        ...


SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A number of the record that a finding rests on, and the limit that it was held against. `parameter` is empty for one of the step."""

    statistic: str
    parameter: str
    step: int
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found. `first_step` and `last_step` are iterations; `where` is the user's file:line, empty when there is none.

    `related` are the codes of findings that this one explains and absorbs.
    """

    code: str
    name: str
    severity: str
    optimizer: int
    first_step: int
    last_step: int
    parameters: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    cause: Message
    advice: Message
    where: str = ""
    excerpt: str = ""
    related: tuple[str, ...] = field(default_factory=tuple[str, ...])
