"""Follow the signal back through the steps of a recurrent module."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from seismograd.schema import SampleBatch

CELLS = ("RNNCell", "LSTMCell", "GRUCell")
MIN_STEPS = 4


@dataclass(frozen=True, slots=True)
class SignalInTime:
    """A recurrent module in a sampled step: the signals that reach its steps, the earliest first;
    each of `num_steps` steps back multiplies it by `gain`, and `total` of that at the last one is
    left at the first.
    """

    module: str
    type: str
    steps: tuple[int, ...]
    signals: tuple[float, ...]

    @property
    def num_steps(self) -> int:
        """Return how many steps lie between the last and the first."""
        return self.steps[-1] - self.steps[0]

    @property
    def total(self) -> float:
        """Return the share of the signal at the last step that is left at the first; NaN where
        nothing reaches the last.
        """
        last = self.signals[-1]
        return self.signals[0] / last if last > 0 else math.nan

    @property
    def gain(self) -> float:
        """Return the factor of each step."""
        return self.total ** (1 / self.num_steps)


def signals_in_time(batch: SampleBatch) -> Iterator[SignalInTime]:
    """Yield the recurrent modules of a sample: those that run over a sequence by what reaches the
    inputs of their steps, cells by what reaches what their calls return.
    """
    inputs, outputs = batch.column("input_signal_rms"), batch.column("signal_rms")
    found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for position, subject in enumerate(batch.subjects):
        if subject.time >= 0 and subject.call == 0:
            found[subject.name, subject.type].append((subject.time, float(inputs[position])))
        elif subject.type in CELLS:
            found[subject.name, subject.type].append((subject.call, float(outputs[position])))
    for (name, kind), signals in found.items():
        known = [(step, signal) for step, signal in signals if not math.isnan(signal)]
        if len(known) >= MIN_STEPS:
            steps, values = zip(*known, strict=True)
            yield SignalInTime(name, kind, steps, values)
