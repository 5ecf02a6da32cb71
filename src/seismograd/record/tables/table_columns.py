"""The columns of the tables of a run, as NumPy arrays: what they are called, and their numbers.

Shapes: B steps of a block, P parameters, C of them chosen, W numbers per parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seismograd.record.pyramid.cells import PYRAMID_STATISTICS, cell_rows
from seismograd.record.reader import Run
from seismograd.schema import (
    AnyArray,
    EventKind,
    FloatArray,
    RowBatch,
    State,
    Statistic,
)

MaskArray = npt.NDArray[np.bool_]
STATE_NAMES = tuple(state.name.lower() for state in State)
EVENT_NAMES = {int(kind): kind.name.lower() for kind in EventKind}
LARGEST_BLOCK = 2**16  # rows of a table that are made at once, about
_STEP_FIELDS = {"iteration": "step", "step": "optimizer_step"}  # what a user calls them


@dataclass(frozen=True, slots=True)
class ArrayColumn:
    """A column: `values`  # (N,) or (N, W); `missing` is true where there is no value at all, which
    is not the same as NaN; with `words`, values are positions in them.
    """

    values: AnyArray
    missing: MaskArray | None = None
    words: Sequence[str] | None = None


Columns = Mapping[str, ArrayColumn]


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Which rows of a run: `start` to `stop` are row numbers, `columns` those of the parameters."""

    start: int
    stop: int
    columns: Sequence[int]


def gradient_columns(run: Run, chosen: RowSelection) -> Iterator[Columns]:
    """Yield a row for each step and parameter, in the order of steps: the state, and every
    statistic. A statistic that was not measured there is missing.
    """
    size = max(1, LARGEST_BLOCK // max(1, len(chosen.columns)))
    position = {parameter.name: column for column, parameter in enumerate(run.parameters)}
    names = [parameter.name for parameter in run.parameters]
    for block in run.blocks(size, chosen.start, chosen.stop):
        there = [position[parameter.name] for parameter in block.parameters]
        # Columns of the block that were chosen, and which parameters of the run they are.
        wanted = [(own, column) for own, column in enumerate(there) if column in chosen.columns]
        if wanted:
            own = [each for each, _ in wanted]
            yield _gradients(run.statistics, block, own, np.array([c for _, c in wanted]), names)


def _gradients(
    statistics: Sequence[Statistic],
    block: RowBatch,
    own: Sequence[int],
    columns: AnyArray,
    names: Sequence[str],
) -> Columns:
    num_steps, num_columns = len(block), len(own)
    state = block.state[:, own]
    absent = state <= State.ABSENT
    found = {
        "step": ArrayColumn(np.repeat(block.steps["iteration"], num_columns)),
        "parameter": ArrayColumn(np.tile(columns, num_steps), words=names),
        "state": ArrayColumn(state.ravel(), words=STATE_NAMES),
    }
    for statistic in statistics:
        if statistic.sampled:
            values, missing = _sampled(statistic, block, own)
        elif statistic.name in block.values:
            values = block.values[statistic.name][:, own]
            missing = np.zeros_like(absent)
        else:
            values, missing = _nothing(statistic, num_steps, num_columns)
        missing = missing | absent
        if statistic.name in ("update_ratio", "unmoved"):
            missing = missing | np.isnan(values)  # their NaN means "not probed"
        found[statistic.name] = ArrayColumn(
            values.reshape(num_steps * num_columns, *values.shape[2:]), missing.ravel()
        )
    return found


def _sampled(
    statistic: Statistic, block: RowBatch, own: Sequence[int]
) -> tuple[AnyArray, MaskArray]:
    values, missing = _nothing(statistic, len(block), len(own))
    if statistic.name in block.samples:
        values[block.sample_rows] = block.samples[statistic.name][:, own]
        missing[block.sample_rows] = False
    return values, missing


def _nothing(statistic: Statistic, num_steps: int, num_columns: int) -> tuple[AnyArray, MaskArray]:
    shape = (num_steps, num_columns, statistic.width)[: 2 + (statistic.width > 1)]
    return np.zeros(shape, statistic.dtype), np.ones((num_steps, num_columns), np.bool_)


def level_columns(run: Run, chosen: RowSelection, level: int) -> Iterator[Columns]:
    """Yield a row for each cell of the pyramid and parameter: `cell_rows(level)` steps in one, how
    many of them have which state, and the smallest, largest and last finite number of each
    statistic of the pyramid.
    """
    rows = cell_rows(level)
    names = [parameter.name for parameter in run.parameters]
    stretch = max(1, LARGEST_BLOCK // max(1, len(chosen.columns))) * rows
    iterations = run.steps["iteration"]
    for start in range(chosen.start - chosen.start % rows, chosen.stop, stretch):
        stop = min(start + stretch, chosen.stop)
        wanted = -(-(stop - start) // rows)
        views = {
            name: run.levels.parameters(name, start, stop, wanted, chosen.columns)
            for name in PYRAMID_STATISTICS
        }
        view = views[PYRAMID_STATISTICS[0]]
        num_cells, num_columns = len(view), len(chosen.columns)
        found = {
            "first_step": ArrayColumn(np.repeat(iterations[view.starts], num_columns)),
            "last_step": ArrayColumn(np.repeat(iterations[view.stops - 1], num_columns)),
            "parameter": ArrayColumn(np.tile(np.array(chosen.columns), num_cells), words=names),
        }
        for state in State:
            counts = view.counts[:, state].astype(np.int64)
            found[f"steps_{state.name.lower()}"] = ArrayColumn(counts.ravel())
        for name, each in views.items():
            for kind, values in (("low", each.low), ("high", each.high), ("last", each.last)):
                found[f"{name}_{kind}"] = _finite(values)
        yield found


def _finite(values: FloatArray) -> ArrayColumn:
    flat = values.ravel()
    return ArrayColumn(flat, np.isnan(flat))


def step_columns(run: Run, chosen: RowSelection) -> Iterator[Columns]:
    """Yield a row for each step: what is recorded of it beside the gradients."""
    for start in range(chosen.start, chosen.stop, LARGEST_BLOCK):
        steps = run.row_reader.steps(start, min(start + LARGEST_BLOCK, chosen.stop))
        yield {
            _STEP_FIELDS.get(name, name): ArrayColumn(steps[name])
            for name in steps.dtype.names or ()
        }


def event_columns(run: Run, chosen: RowSelection) -> Iterator[Columns]:
    """Yield a row for each call that was heard, with the user's line."""
    if chosen.stop <= chosen.start:
        return
    iterations = run.row_reader.steps(chosen.start, chosen.stop)["iteration"]
    events = run.events
    inside = (events["iteration"] >= iterations[0]) & (events["iteration"] <= iterations[-1])
    events = events[inside]
    places = [f"{site.file}:{site.line}" for site in run.sites]
    kinds = [EVENT_NAMES.get(code, "?") for code in range(max(EVENT_NAMES) + 1)]
    for start in range(0, len(events), LARGEST_BLOCK):
        part = events[start : start + LARGEST_BLOCK]
        found = {
            {"iteration": "step"}.get(name, name): ArrayColumn(part[name])
            for name in part.dtype.names or ()
            if name not in ("site", "kind")
        }
        unknown = part["kind"] >= len(kinds)
        kind = np.where(unknown, 0, part["kind"])
        yield {
            "call": ArrayColumn(kind, words=kinds),
            "place": ArrayColumn(
                np.maximum(part["site"], 0), part["site"] < 0, words=places or ["?"]
            ),
            **found,
        }
