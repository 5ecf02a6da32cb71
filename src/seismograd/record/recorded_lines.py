"""Read files of JSON lines of a record, as far as their lines are whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seismograd.record.recorded_files import read_whole_lines
from seismograd.record.seals import loads_sealed


@dataclass(frozen=True, slots=True)
class IntactLines:
    """The values of the whole lines of a file; `torn` when something followed them."""

    values: tuple[Any, ...]
    torn: bool


def read_lines(
    path: Path, parse: Callable[[Any], Any], num_expected: int, by_number: bool
) -> IntactLines:
    """Return the values that `parse` makes of the lines of a file, without those that are not
    whole; none for a missing file. `by_number`: what comes behind a damaged line has another
    number, so it is left out too.
    """
    values: list[Any] = []
    torn = False
    try:
        for line in read_whole_lines(path):
            if line is None:
                return IntactLines(tuple(values), True)
            try:
                values.append(parse(loads_sealed(line)))
            except (ValueError, KeyError, TypeError):
                torn = True
                if by_number:
                    break
    except FileNotFoundError:
        torn = num_expected > 0
    return IntactLines(tuple(values), torn or len(values) < num_expected)
