"""The numbers of one call of a module, and of what lies between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.schema import SAMPLE_FIELDS, SampleBatch, SampleKind, SampleSubject

NAMES = SAMPLE_FIELDS[SampleKind.MODULE_SIGNALS].names
SIGNALS = frozenset({"signal_rms", "signal_largest", "input_signal_rms"})


@dataclass(eq=False, slots=True)
class CallRecord:
    """A call: its `numbers` by the names of the fields, filled when they have been fetched.
    `source` is the record that its input came from. `expects`: its result needs a gradient.
    """

    name: str
    type: str
    call: int = 0
    time: int = -1
    source: CallRecord | None = None
    bypass: CallRecord | None = None  # of a sum: where its other operand came from
    numbers: dict[str, float] = field(default_factory=dict[str, float])
    expects: bool = False
    has_signal: bool = False


def batch_of(
    records: Sequence[CallRecord], step: int, optimizer: int, scale: float
) -> SampleBatch | None:
    """Return the sample of a step, the loss scale divided out of its signals. Calls whose result
    needed a gradient and got none are left out: another step of the loop is theirs.
    """
    kept = [each for each in records if each.numbers and (each.has_signal or not each.expects)]
    if not kept:
        return None
    position = {id(each): at for at, each in enumerate(kept)}
    values = np.full((len(kept), len(NAMES)), np.nan)
    measured = np.zeros(values.shape, np.bool_)
    for row, each in enumerate(kept):
        for name, number in each.numbers.items():
            column = NAMES.index(name)
            values[row, column] = number / scale if name in SIGNALS else number
            measured[row, column] = True
    subjects = [
        SampleSubject(
            each.name,
            each.type,
            each.call,
            each.time,
            position.get(id(each.source), -1),
            position.get(id(each.bypass), -1),
        )
        for each in kept
    ]
    return SampleBatch(
        SampleKind.MODULE_SIGNALS, step, tuple(subjects), values, measured, optimizer
    )
