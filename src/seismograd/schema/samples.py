"""What is looked at only on sampled steps: the signals of modules, the state of optimizers,
sketches of gradients. Each kind has its own fields; none has a number at every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from seismograd.schema.arrays import AnyArray, BoolArray, FloatArray

SKETCH_WIDTH = 64


class SampleKind(StrEnum):
    """What was sampled."""

    MODULE_SIGNALS = "module_signals"
    OPTIMIZER_STATE = "optimizer_state"
    GRADIENT_SKETCH = "gradient_sketch"


class SampleAxis(StrEnum):
    """What the subjects of a kind are."""

    MODULES = "modules"  # calls of modules, in the order of execution
    PARAMETERS = "parameters"


@dataclass(frozen=True, slots=True)
class SampleFields:
    """The numbers of a kind: of what, and what they are called."""

    axis: SampleAxis
    names: tuple[str, ...]


SAMPLE_FIELDS: Mapping[SampleKind, SampleFields] = {
    SampleKind.MODULE_SIGNALS: SampleFields(
        SampleAxis.MODULES,
        (
            "numel",
            "rms",
            "largest",
            "zeros",
            "saturated",
            "signal_rms",
            "signal_largest",
            "input_signal_rms",
            "attention_logit",
            "attention_entropy",
        ),
    ),
    SampleKind.OPTIMIZER_STATE: SampleFields(
        SampleAxis.PARAMETERS,
        (
            "gradient_to_state",
            "momentum_to_root",
            "below_eps",
            "age",
            "newton_schulz_norm",
            "momentum_to_gradient",
        ),
    ),
    SampleKind.GRADIENT_SKETCH: SampleFields(
        SampleAxis.PARAMETERS, tuple(f"sum_{index:02d}" for index in range(SKETCH_WIDTH))
    ),
}
MAX_FIELDS = 64  # one bit each says whether it was measured


@dataclass(frozen=True, slots=True)
class SampleSubject:
    """What a row of a sample is about: a parameter by its `name`, or the `call`-th call, from 0, of
    the module of this name. `type` is the class of the module, or the operation that follows
    it; `time` is the step of a recurrence, -1 for all of a call. `source` is the position within
    its sample of the subject that its input came from, -1 where it came from several or from
    elsewhere; of a sum, `bypass` is that of the other operand, as of a residual branch.
    """

    name: str
    type: str = ""
    call: int = 0
    time: int = -1
    source: int = -1
    bypass: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class SampleBatch:
    """The numbers of one kind of a step: `values` of each subject  # (n, k), and which of them were
    `measured`: a number that was may itself be NaN.
    """

    kind: SampleKind
    step: int
    subjects: Sequence[SampleSubject]
    values: FloatArray
    measured: BoolArray = field(default_factory=lambda: np.empty((0, 0), np.bool_))
    optimizer: int = -1

    def __post_init__(self) -> None:
        shape = (len(self.subjects), len(SAMPLE_FIELDS[self.kind].names))
        if self.measured.size == 0:
            object.__setattr__(self, "measured", np.ones(shape, np.bool_))
        if self.values.shape != shape or self.measured.shape != shape:
            raise ValueError(f"{self.kind}: {self.values.shape} where {shape} is expected")

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def nbytes(self) -> int:
        """Return the memory that its numbers take."""
        return int(self.values.nbytes + self.measured.nbytes)

    def column(self, name: str) -> FloatArray:
        """Return one field of all subjects, NaN where it was not measured  # (n,)."""
        index = SAMPLE_FIELDS[self.kind].names.index(name)
        return np.where(self.measured[:, index], self.values[:, index], np.nan)

    def was_measured(self, name: str) -> BoolArray:
        """Return of which subjects a field was measured  # (n,)."""
        return self.measured[:, SAMPLE_FIELDS[self.kind].names.index(name)]


SAMPLE_BATCH_DTYPE: np.dtype[Any] = np.dtype(
    [("step", "<i8"), ("optimizer", "<i4"), ("end", "<i8")]
)
"""A batch in its file: `end` is the number of rows up to and with it."""


def sample_dtype(kind: SampleKind) -> np.dtype[Any]:
    """Return the dtype of the rows of a kind: the subject's number, a bit for each field that was
    measured, and the fields.
    """
    names = SAMPLE_FIELDS[kind].names
    return np.dtype([("subject", "<i4"), ("measured", "<u8"), *((name, "<f8") for name in names)])


def to_entries(batch: SampleBatch, subjects: Sequence[int]) -> AnyArray:
    """Return a batch as rows of its file, its subjects by these numbers."""
    num = len(SAMPLE_FIELDS[batch.kind].names)
    # the same memory, its fields as one
    entries = np.zeros(
        len(batch), [("subject", "<i4"), ("measured", "<u8"), ("fields", "<f8", num)]
    )
    entries["subject"] = subjects
    bits = np.uint64(1) << np.arange(num, dtype=np.uint64)
    entries["measured"] = (batch.measured * bits).sum(axis=1, dtype=np.uint64)
    np.copyto(entries["fields"], batch.values, where=batch.measured)
    return entries.view(sample_dtype(batch.kind))


def from_entries(
    kind: SampleKind,
    step: int,
    optimizer: int,
    subjects: Sequence[SampleSubject],
    entries: AnyArray,
) -> SampleBatch:
    """Return the batch of these rows, whose dtype may be that of another version: fields are
    found by name, and one that is missing was not measured.
    """
    names = SAMPLE_FIELDS[kind].names
    recorded = [name for name in entries.dtype.names or () if name not in ("subject", "measured")]
    shape = (len(entries), len(names))
    values, measured = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    bits = entries["measured"].astype(np.uint64)
    for index, name in enumerate(names):
        if name in recorded[:MAX_FIELDS]:
            bit = np.uint64(1) << np.uint64(recorded.index(name))
            measured[:, index] = (bits & bit) != 0
            values[:, index] = np.where(measured[:, index], entries[name], np.nan)
    return SampleBatch(kind, step, subjects, values, measured, optimizer)
