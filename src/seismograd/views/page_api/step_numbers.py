"""One row of a run for the page: every parameter's numbers, and the line through the norms over
depth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from seismograd.analysis.depth_profile import end_norms, layer_norms
from seismograd.analysis.medians import median
from seismograd.analysis.profile_layers import chains_of
from seismograd.analysis.robust_line import fit_line
from seismograd.record.reader import Run
from seismograd.schema import STATISTICS, AnyArray, FloatArray, State, StatisticKind, StepFlag
from seismograd.views.page_api.packing import pack

# The sum of a gradient says nothing to a reader.
_STATISTICS = tuple(
    each.name for each in STATISTICS if not each.sampled and each.kind is not StatisticKind.SUM
)
_SCALARS = ("loss", "lr", "scale", "clip_norm", "clip_limit", "clip_coefficient")
_MIN_LAYERS = 4
_MOSTLY = 2 / 3
_MOST_LOOKS = 256


def answer_step(run: Run, row: int) -> bytes:
    """Return the numbers of all parameters (P,) each, NaN: not measured or no gradient; the scalars
    of the step; the fitted profile.
    """
    if run.num_rows == 0:
        return pack({"row": -1, "step": -1})
    states, values = row_values(run, row)
    numbers = run.row_reader.steps(row, row + 1)[0]
    header: dict[str, object] = {name: float(numbers[name]) for name in _SCALARS}
    header |= {
        name: int(numbers[name]) for name in ("epoch", "flags", "num_backwards", "optimizer")
    }
    header["loss_measured"] = not int(numbers["flags"]) & StepFlag.NO_LOSS
    header |= {
        "total_norm": float(numbers["grad_norm"]),
        "total_applied": float(numbers["applied_norm"]),
    }
    header |= {
        "row": row,
        "step": int(numbers["iteration"]),
        "time_s": float(numbers["time_s"]),
        "fit": _fit(run, row, states, values),
    }
    return pack(header, {"states": states, **values})


def row_values(run: Run, row: int) -> tuple[AnyArray, dict[str, AnyArray]]:
    """Return the states (P,) and the statistics (P,) of one row, in the columns of the run."""
    num = len(run.parameters)
    states = np.full(num, State.NOT_MEASURED, np.uint8)
    values: dict[str, AnyArray] = {name: np.full(num, np.nan) for name in _STATISTICS}
    place_of = {each.name: position for position, each in enumerate(run.parameters)}
    for block in run.row_reader.blocks(row, row + 1):
        positions = [place_of[each.name] for each in block.parameters]
        states[positions] = block.state[0]
        there = block.state[0] > State.ABSENT
        for name in _STATISTICS:
            if name in block.values:
                values[name][positions] = np.where(there, block.values[name][0], np.nan)
    return states, values


def _fit(
    run: Run, row: int, states: AnyArray, values: Mapping[str, AnyArray]
) -> dict[str, object] | None:
    """Return the line through the norms of the weights over depth, at the last row up to this one
    where most of them are finite.

    Of parallel networks it is that of the longest.
    """
    layers = chains_of(run.parameters)[0]
    columns = [int(column) for column in layers.columns[: len(layers)]]
    if len(columns) < _MIN_LAYERS:
        return None
    fitted: int | None = row
    if not _mostly_finite(states[columns], values["grad_norm"][columns]):
        fitted = _last_mostly_finite(run, row, columns)
        if fitted is None:
            return None
        states, values = row_values(run, fitted)
    norm = values["grad_norm"][columns]
    usable = np.flatnonzero((states[columns] == State.FINITE) & (norm > 0) & np.isfinite(norm))
    height: FloatArray = np.log10(norm[usable])
    slope, goodness = fit_line(height[None, :])
    middle = median(height - float(slope[0]) * np.arange(len(height)))
    return {
        "row": fitted,
        "step": int(run.row_reader.steps(fitted, fitted + 1)["iteration"][0]),
        "ends": _ends(run, fitted),
        "slope": float(slope[0]),
        "intercept": middle,
        "goodness": float(goodness[0]),
        "columns": [columns[index] for index in usable],
    }


def _ends(run: Run, row: int) -> dict[str, object]:
    """Return the norms at both ends of the layers and what lies between, as findings tell them."""
    block = next(iter(run.row_reader.blocks(row, row + 1)))
    layers = chains_of(block.parameters)[0]
    ends = end_norms(layer_norms(block, layers), layers, 0)
    return {**dataclasses.asdict(ends), "gain": ends.gain}


def _mostly_finite(states: AnyArray, norm: AnyArray) -> bool:
    usable = (states == State.FINITE) & (norm > 0)
    return int(usable.sum()) >= _num_needed(len(states))


def _num_needed(num_layers: int) -> int:
    return max(_MIN_LAYERS, math.ceil(_MOSTLY * num_layers))


def _last_mostly_finite(run: Run, row: int, columns: list[int]) -> int | None:
    """Return the last row where most are finite. Searches from coarse to fine levels, so that it
    reads little however far back that is.

    A stretch may look as if it had such a row and have none: where optimizers step in turn, each
    row holds the layers of one. So every row is checked before it is returned, and after
    `_MOST_LOOKS` stretches and rows the search gives up.
    """
    stretches, looks = [(0, row + 1)], 0
    while stretches and looks < _MOST_LOOKS:
        start, stop = stretches.pop()
        looks += 1
        if stop - start == 1:
            states, values = row_values(run, start)
            if _mostly_finite(states[columns], values["grad_norm"][columns]):
                return start
            continue
        view = run.levels.parameters("grad_norm", start, stop, 64, columns)
        enough = ((view.counts[:, State.FINITE] > 0) & (view.high > 0)).sum(axis=1) >= _num_needed(
            len(columns)
        )
        finer = [
            (max(int(view.starts[i]), start), min(int(view.stops[i]), stop))
            for i in np.flatnonzero(enough)
        ]
        if finer == [(start, stop)]:  # as fine as the levels go
            finer = [(each, each + 1) for each in range(start, stop)]
        # the last one is looked at first
        stretches.extend(each for each in finer if each[0] < each[1])
    return None
