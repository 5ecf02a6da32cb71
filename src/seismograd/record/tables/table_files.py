"""Write a table of a run as Parquet, Arrow or CSV, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.tables.run_table import RunTable, load, record_batch
from seismograd.settings.output_file import check_output_file

SUFFIXES = (".parquet", ".arrow", ".csv")
_PART = ".part"  # a file that was begun does not stand where a whole one is expected

Counted = Callable[[Iterable[tuple[Any, int]], int], Iterable[Any]]


def check_target(path: Path) -> None:
    """Reject a file that could not be written, before the run is read.

    Raises:
        SeismogradError: its format is unknown, its folder does not exist, or pyarrow is missing.
    """
    check_output_file(path, SUFFIXES)
    load("pyarrow")


def parse_steps(text: str) -> slice:
    """Return `FIRST:STOP` as a slice.

    Raises:
        SeismogradError: it is none.
    """
    first, colon, stop = text.partition(":")
    try:
        if not colon:
            raise ValueError(text)
        return slice(int(first) if first.strip() else None, int(stop) if stop.strip() else None)
    except ValueError as error:
        raise SeismogradError(
            say("{option} does not accept {value}", option="--steps", value=repr(text)),
            say("use a slice of step numbers such as 100:200"),
        ) from error


def write_table(table: RunTable, path: Path, counted: Counted) -> int:
    """Write the whole table and return how many rows it has. Histograms, which are lists, are left
    out of CSV.

    Raises:
        SeismogradError: the file cannot be written.
    """
    arrow = load("pyarrow")
    begun = path.with_name(path.name + _PART)
    rows = 0
    try:
        schema = _flat(table.schema(), path)
        with _writer(arrow, begun, path.suffix.lower(), schema) as writer:
            for batch in counted(_with_steps(arrow, table), table.num_steps):
                rows += batch.num_rows
                writer.write_batch(batch.select(schema.names))
        begun.replace(path)
    except OSError as error:
        raise SeismogradError(
            say("cannot write {path}: {error}", path=str(path), error=str(error))
        ) from error
    finally:
        begun.unlink(missing_ok=True)
    return rows


def _flat(schema: Any, path: Path) -> Any:
    """Return the columns that the format can hold."""
    if path.suffix.lower() != ".csv":
        return schema
    types = load("pyarrow.types")
    return load("pyarrow").schema(
        [field for field in schema if not types.is_fixed_size_list(field.type)]
    )


def _with_steps(arrow: Any, table: RunTable) -> Iterator[tuple[Any, int]]:
    for columns in table.columns():
        batch = record_batch(arrow, columns)
        yield batch, round(batch.num_rows / table.rows_of_a_step)


def _writer(arrow: Any, path: Path, suffix: str, schema: Any) -> AbstractContextManager[Any]:
    if suffix == ".parquet":
        return load("pyarrow.parquet").ParquetWriter(path, schema)
    if suffix == ".csv":
        return load("pyarrow.csv").CSVWriter(path, schema)
    return arrow.ipc.new_file(path, schema)
