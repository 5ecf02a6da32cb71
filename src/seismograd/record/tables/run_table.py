"""A table of a run, read when it is asked for: as Arrow, pandas, Polars or xarray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.parameter_selection import find_parameters
from seismograd.record.pyramid.cells import cell_rows
from seismograd.record.reader import Run, open_run
from seismograd.record.tables.table_columns import (
    ArrayColumn,
    Columns,
    RowSelection,
    event_columns,
    gradient_columns,
    level_columns,
    step_columns,
)

TABLES: dict[str, Callable[[Run, RowSelection], Iterator[Columns]]] = {
    "gradients": gradient_columns,
    "steps": step_columns,
    "events": event_columns,
}
_LATER = 2**62  # a step that no run has
_NEVER_SAMPLED = 6  # levels: 8^6 steps in a cell are more than any run needs


@dataclass(frozen=True)
class RunTable:
    """A table of a run; nothing is read before it is asked for.

    `name` is `"gradients"` (a row for each step and parameter), `"steps"` or `"events"`. `params`
    are patterns of names, `steps` a slice of step numbers. With `level=k` a row of the gradients
    summarises 8^k steps: how many had which state, and the extremes.

    >>> table = run.table(params="fc1.*", steps=slice(0, 100))
    >>> table.to_pandas()
    """

    run: Run
    name: str = "gradients"
    params: str | Sequence[str] = ()
    steps: slice = field(default_factory=lambda: slice(None))
    level: int = 0

    def __post_init__(self) -> None:
        if self.name not in TABLES:
            raise SeismogradError(
                say("unknown table {name}", name=repr(self.name)),
                say("available names: {names}", names=", ".join(TABLES)),
            )
        if self.steps.step not in (None, 1):
            raise SeismogradError(
                say("steps cannot be skipped in a table"),
                say("use level=1 to summarise 8 steps in one, or skip rows of the result"),
            )
        if self.level and self.name != "gradients":
            raise SeismogradError(
                say("only the table of gradients has levels"), say("leave level out")
            )
        if not 0 <= self.level <= _NEVER_SAMPLED:
            raise SeismogradError(
                say("there is no level {level}", level=self.level),
                say("use a number from 0 to {last}", last=_NEVER_SAMPLED),
            )
        find_parameters(self.run.parameters, self._patterns)

    def __repr__(self) -> str:
        chosen = self._selection()
        return (
            f"<RunTable {self.name} of {self.run.path}: steps: {chosen.stop - chosen.start}, "
            f"parameters: {len(chosen.columns)}>"
        )

    @property
    def _patterns(self) -> Sequence[str]:
        return (self.params,) if isinstance(self.params, str) else self.params

    @property
    def num_steps(self) -> int:
        """Return how many steps of the run it covers."""
        chosen = self._selection()
        return chosen.stop - chosen.start

    @property
    def rows_of_a_step(self) -> float:
        """Return how many rows a step has, about: 0 would divide by nothing."""
        if self.name != "gradients":
            return 1.0
        return max(1, len(self._selection().columns)) / cell_rows(self.level)

    def columns(self) -> Iterator[Columns]:
        """Yield the table in blocks of NumPy columns, by their names."""
        chosen = self._selection()
        if self.level:
            return level_columns(self.run, chosen, self.level)
        return TABLES[self.name](self.run, chosen)

    def batches(self, follow: bool = False, poll_s: float = 1.0) -> Iterator[Any]:
        """Yield `pyarrow.RecordBatch`es. With `follow`, wait for more until the run has ended.

        Raises:
            SeismogradError: pyarrow is not installed.
        """
        arrow = load("pyarrow")
        table = self
        while True:
            chosen = table._selection()
            for columns in table.columns():
                yield record_batch(arrow, columns)
            if not follow or table.run.ended:
                return
            time.sleep(poll_s)
            table = table._after(chosen.stop)

    def to_arrow(self) -> Any:
        """Return the whole as a `pyarrow.Table`.

        Raises:
            SeismogradError: pyarrow is not installed.
        """
        arrow = load("pyarrow")
        found = list(self.batches())
        return arrow.Table.from_batches(found, schema=found[0].schema if found else self.schema())

    def schema(self) -> Any:
        """Return the names and types of the columns, a `pyarrow.Schema`."""
        arrow = load("pyarrow")
        first = next(self.columns(), None)
        return arrow.schema([]) if first is None else record_batch(arrow, first).schema

    def to_pandas(self) -> Any:
        """Return the whole as a `pandas.DataFrame`; missing values are `pandas.NA` where the dtype
        has them, and NaN stays NaN.

        Raises:
            SeismogradError: pandas or pyarrow is not installed.
        """
        pandas = load("pandas")
        return self.to_arrow().to_pandas(types_mapper=pandas.ArrowDtype)

    def to_polars(self) -> Any:
        """Return the whole as a `polars.DataFrame`.

        Raises:
            SeismogradError: Polars or pyarrow is not installed.
        """
        return load("polars").from_arrow(self.to_arrow())

    def to_xarray(self) -> Any:
        """Return the gradients as an `xarray.Dataset` over `step` and `parameter`, NaN where a
        number is missing; histograms have `bin` besides.

        Raises:
            SeismogradError: xarray is not installed, or the table is another one.
        """
        xarray = load("xarray")
        if self.name != "gradients" or self.level:
            raise SeismogradError(
                say("only the table of gradients has the form of a cube"),
                say("use to_arrow, to_pandas or to_polars"),
            )
        chosen = self._selection()
        columns = list(chosen.columns)
        rows = slice(chosen.start, chosen.stop)
        data: dict[str, Any] = {
            "state": (("step", "parameter"), self.run.states[rows][:, columns]),
        }
        for statistic in self.run.statistics:
            if statistic.width == 1:
                values = self.run.series(statistic.name)[rows][:, columns]
                data[statistic.name] = (("step", "parameter"), values, _attributes(statistic))
            else:
                data[statistic.name] = self._histograms(statistic.name, chosen)
        return xarray.Dataset(
            data,
            {
                "step": self.run.steps["iteration"][rows],
                "parameter": [self.run.parameters[column].name for column in columns],
            },
            {
                "script": self.run.info.script,
                "states": "not measured, absent, zero, finite, nonfinite",
            },
        )

    def _histograms(self, name: str, chosen: RowSelection) -> Any:
        sampled, values = self.run.samples(name)
        whole = np.full((chosen.stop - chosen.start, len(chosen.columns), values.shape[2]), np.nan)
        inside = (sampled >= chosen.start) & (sampled < chosen.stop)
        whole[sampled[inside] - chosen.start] = values[inside][:, list(chosen.columns)]
        return (("step", "parameter", "bin"), whole)

    def _selection(self) -> RowSelection:
        columns = find_parameters(self.run.parameters, self._patterns)
        start, stop, step = self.steps.start, self.steps.stop, self.run.num_rows
        if start is None and stop is None:
            return RowSelection(0, step, columns)
        iterations = self.run.steps["iteration"]
        last = int(iterations[-1]) + 1 if len(iterations) else 0
        low, high, _ = slice(start, stop).indices(last)
        first, end = (int(each) for each in np.searchsorted(iterations, (low, high)))
        return RowSelection(first, max(first, end), columns)

    def _after(self, row: int) -> RunTable:
        """Return the same table of the run as it is now, from this row on."""
        run = open_run(self.run.path)
        next_step = _LATER
        if row < run.num_rows:
            next_step = int(run.row_reader.steps(row, row + 1)["iteration"][0])
        return replace(self, run=run, steps=slice(next_step, self.steps.stop))


def _attributes(statistic: Any) -> dict[str, str]:
    return {"units": statistic.unit, "long_name": statistic.description}


def load(name: str) -> Any:
    """Return a library that is only needed for tables.

    Raises:
        SeismogradError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise SeismogradError(
            say("this table needs {package}, which is not installed", package=name),
            say("pip install {package}", package=name),
        ) from error


def record_batch(arrow: Any, columns: Columns) -> Any:
    """Return a block as a `pyarrow.RecordBatch`."""
    return arrow.record_batch(
        [_array(arrow, column) for column in columns.values()], names=list(columns)
    )


def _array(arrow: Any, column: ArrayColumn) -> Any:
    if column.words is not None:
        indices = arrow.array(column.values.astype(np.int32), mask=column.missing)
        return arrow.DictionaryArray.from_arrays(indices, arrow.array(list(column.words)))
    # Types of Arrow are those of the machine.
    values = np.ascontiguousarray(
        column.values.astype(column.values.dtype.newbyteorder("="), copy=False)
    )
    if values.ndim == 1:
        return arrow.array(values, mask=column.missing)
    flat = arrow.array(values.ravel())
    return arrow.FixedSizeListArray.from_arrays(
        flat,
        values.shape[1],
        mask=None if column.missing is None else arrow.array(column.missing),
    )
