"""What a widget shows, as the state that it shares with its views: of a size independent of the
run's length.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from seismograd.record.reader import Run
from seismograd.views.page_api.compact_answers import narrow, planes, together
from seismograd.views.page_api.page_verdict import page_verdict
from seismograd.views.page_api.run_overview import telling_row
from seismograd.views.page_api.run_source import RunSource

_MOST_CELLS = 120_000  # of the heat map
_MOST_COLUMNS = 300
_FEWEST_COLUMNS = 4
_SCALAR_COLUMNS = 300
_MOST_ROWS = 8  # whose every number is there
_MOST_STEP_NUMBERS = 1000  # rows times parameters, beyond the last row
_MOST_PARAMETERS = 5000  # of which even the numbers of the last row are there


def widget_answers(run: Run, going_on: bool) -> bytes:
    """Return the answers of a run that the views of a widget draw, compressed."""
    source = RunSource(page_verdict(run, going_on), going_on)
    rows: dict[str, object] = {
        "step_rows": _rows(source),
        **dict.fromkeys(("lane_rows", "signal_rows", "picture_rows"), ()),
    }
    # The first level: it runs beside a training, and is done again for the next step.
    return gzip.compress(together(dict(_answers(source)), rows), 1, mtime=0)


def _answers(source: RunSource) -> Iterator[tuple[str, bytes]]:
    num_rows, num_parameters = source.run.num_rows, len(source.run.parameters)
    yield "meta", source.meta()
    if not num_rows:
        return
    room = _MOST_CELLS // max(1, num_parameters)
    width = max(_FEWEST_COLUMNS, min(_MOST_COLUMNS, room))
    yield "heat/grad_norm/high", planes(source.heat(0, num_rows, width))
    yield "scalars", narrow(source.scalars(0, num_rows, _SCALAR_COLUMNS))
    for row in _rows(source):
        yield f"step/{row}", narrow(source.step(row))


def _rows(source: RunSource) -> list[int]:
    """Return the rows whose every number is there: the last, the first, and those of findings."""
    run = source.run
    if not run.num_rows or len(run.parameters) > _MOST_PARAMETERS:
        return []
    telling = [telling_row(run, finding) for finding in source.verdict.findings]
    most = max(1, min(_MOST_ROWS, _MOST_STEP_NUMBERS // max(1, len(run.parameters))))
    return sorted(list(dict.fromkeys([run.num_rows - 1, *telling, 0]))[:most])
