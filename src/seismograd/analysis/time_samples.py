"""Read the steps of recurrent modules in a sample as measurements through time: of those too that
run as one operation, whose steps no graph shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from seismograd.analysis.signal_in_time import CELLS, SignalInTime, signals_in_time
from seismograd.schema import Fact, FactKind, SampleBatch

MIN_STEPS = 8
_MOST_DECADES = 300.0


def measurements_of(batch: SampleBatch) -> Iterator[Fact]:
    """Yield a `THROUGH_TIME` fact for each recurrent module of a sample."""
    for signal in signals_in_time(batch):
        line = _line(signal)
        if line is None:
            continue
        gain, goodness = line
        total = -np.log10(gain) * signal.num_steps
        yield Fact(
            FactKind.THROUGH_TIME,
            batch.step,
            parameters=(recurrent_weight(signal),),
            optimizer=batch.optimizer,
            values={
                "steps": signal.num_steps + 1,
                "first": signal.signals[0],
                "last": signal.signals[-1],
                "gain": gain,
                "total": float(10 ** -np.clip(total, -_MOST_DECADES, _MOST_DECADES)),
                "goodness": goodness,
            },
        )


def recurrent_weight(signal: SignalInTime) -> str:
    """Return the name of the weight that the state goes through, of the first layer."""
    return f"{signal.module}.{'weight_hh' if signal.type in CELLS else 'weight_hh_l0'}"


def _line(signal: SignalInTime) -> tuple[float, float] | None:
    """Return by how much each step multiplies the signal on its way back, and the R² of the line
    through the logarithms of what is not zero; `None` for a sequence that is too short, or that has
    numbers that are not finite.
    """
    sizes, at = np.array(signal.signals), np.array(signal.steps, np.float64)
    if not np.isfinite(sizes).all() or (sizes > 0).sum() < MIN_STEPS:
        return None
    height, at = np.log10(sizes[sizes > 0]), at[sizes > 0]
    at = at - at.mean()
    slope = float((at * height).sum() / (at * at).sum())
    spread = height - height.mean()
    rest = spread - slope * at
    goodness = 1 - float((rest * rest).sum()) / max(float((spread * spread).sum()), 1e-300)
    return float(10 ** -np.clip(slope, -_MOST_DECADES, _MOST_DECADES)), max(goodness, 0.0)
