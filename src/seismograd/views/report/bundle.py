"""The contents of a report: selected answers of the run's source, packed and compressed, of a size
independent of its length.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator

import numpy as np

from seismograd.schema import SampleKind
from seismograd.views.page_api.compact_answers import narrow, planes, together
from seismograd.views.page_api.run_overview import telling_row
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.unit_pictures import pictured

_MOST_CELLS = 700_000
_MOST_COLUMNS = 540
_ROOM_FOR_MORE = 25_000  # cells up to which the other statistics are included
_SCALAR_COLUMNS = 540
_LINE_COLUMNS = 270
_SAMPLES = 60
_MOST_LINES = 4
_MOST_HISTOGRAMS = 8
_FEW = 16  # parameters up to which the report holds all histograms
_MOST_ROWS = 36
_MOST_STEP_NUMBERS = 2600  # rows times parameters
_MOST_LANES = 8
_MOST_ELEMENTS = 8
_MOST_SIGNALS = 12
_MOST_PICTURED = 3  # weights whose units are shown as pictures
_MOST_PICTURES = 4  # moments of each
_MOST_SIGNAL_CALLS = 4000  # calls of modules times samples


def bundle(source: RunSource) -> str:
    """Return the answers as base64 of gzip, as the page's `ReportSource` reads them."""
    packed = together(
        dict(_answers(source)),
        {
            "step_rows": chosen_rows(source),
            "lane_rows": _lane_rows(source),
            "signal_rows": _signal_rows(source),
            "picture_rows": {str(key): rows for key, rows in _picture_rows(source).items()},
        },
    )
    return base64.b64encode(gzip.compress(packed, 9, mtime=0)).decode()


def _answers(source: RunSource) -> Iterator[tuple[str, bytes]]:
    run = source.run
    rows, num_parameters = run.num_rows, len(run.parameters)
    yield "meta", source.meta()
    if not rows:
        return
    yield "seismogram", source.seismogram()
    width = max(1, min(_MOST_COLUMNS, _MOST_CELLS // max(1, num_parameters)))
    yield "heat/grad_norm/high", planes(source.heat(0, rows, width))
    if width * num_parameters <= _ROOM_FOR_MORE:
        yield "heat/grad_norm/low", planes(source.heat(0, rows, width, "grad_norm", "low"))
        for statistic in ("applied_norm", "update_ratio"):
            yield f"heat/{statistic}/high", planes(source.heat(0, rows, width, statistic))
    yield "scalars", narrow(source.scalars(0, rows, _SCALAR_COLUMNS))
    for row in chosen_rows(source):
        yield f"step/{row}", narrow(source.step(row))
    for row in _lane_rows(source):
        yield f"lanes/{row}", source.lanes(row)
    for row in _signal_rows(source):
        yield f"signals/{row}", narrow(source.signals(row))
    for column, picture_rows in _picture_rows(source).items():
        for row in picture_rows:
            yield f"picture/{column}/{row}", narrow(source.picture(column, row))
    yield "histogram/-1", source.histogram(-1, 0, rows, _SAMPLES)
    chosen = _chosen_columns(source)
    for column in chosen:
        yield f"histogram/{column}", source.histogram(column, 0, rows, _SAMPLES)
    for column in chosen[:_MOST_LINES]:  # for the others the heat map shows the norm
        yield f"line/{column}", narrow(source.line(column, 0, rows, _LINE_COLUMNS))
    for index in range(min(_MOST_ELEMENTS, len(run.info.elements))):
        yield f"element/{index}", narrow(source.element(index, 0, rows, _LINE_COLUMNS))


def chosen_rows(source: RunSource) -> list[int]:
    """Return the rows whose every number the report holds: the ends, those around the findings, and
    some at equal distances.
    """
    last = source.run.num_rows - 1
    if last < 0:
        return []
    most = min(_MOST_ROWS, max(8, _MOST_STEP_NUMBERS // max(1, len(source.run.parameters))))
    chosen = _rows_of_findings(source)[: most * 2 // 3]
    num_even = most - len(chosen)
    return sorted({*chosen, *(index * last // max(1, num_even - 1) for index in range(num_even))})


def _rows_of_findings(source: RunSource) -> list[int]:
    """Return the ends, then the rows whose numbers a finding states, those at which each begins,
    those before, after, and the last of it.
    """
    last = source.run.num_rows - 1
    first_rows = [
        source.run.row_reader.row_of(finding.first_step) for finding in source.verdict.findings
    ]
    last_rows = [
        source.run.row_reader.row_of(finding.last_step) for finding in source.verdict.findings
    ]
    around = [row for first in first_rows for row in (max(0, first - 1), min(last, first + 1))]
    rows_of_findings = [telling_row(source.run, finding) for finding in source.verdict.findings]
    return list(dict.fromkeys([last, 0, *rows_of_findings, *first_rows, *around, *last_rows]))


def _lane_rows(source: RunSource) -> list[int]:
    """Return the rows around which the report holds the timeline."""
    return sorted(_rows_of_findings(source)[:_MOST_LANES]) if source.run.num_rows else []


def _signal_rows(source: RunSource) -> list[int]:
    """Return the rows of the samples of modules that the report holds: the last one, those nearest
    to what findings tell, and some at equal distances, fewer of programs with many modules.
    """
    samples = source.run.sampled(SampleKind.MODULE_SIGNALS)
    if not source.run.num_rows or not len(samples):
        return []
    last = len(samples) - 1
    most = max(2, min(_MOST_SIGNALS, _MOST_SIGNAL_CALLS // max(1, len(samples[last].subjects))))
    reader = source.run.row_reader
    steps = [int(reader.steps(row, row + 1)["iteration"][0]) for row in _rows_of_findings(source)]
    nearest = [int(np.abs(samples.steps - step).argmin()) for step in steps]
    even = [index * last // (_MOST_SIGNALS - 1) for index in range(_MOST_SIGNALS)]
    chosen = list(dict.fromkeys([*nearest, *even]))[:most]
    return sorted({reader.row_of(int(samples.steps[each])) for each in chosen})


def _picture_rows(source: RunSource) -> dict[int, list[int]]:
    """Return by column the rows of the snapshots whose units the report shows as pictures: the
    last one, those nearest to what findings tell, and the first.
    """
    if not source.run.num_rows:
        return {}
    reader = source.run.row_reader
    telling = [int(reader.steps(row, row + 1)["iteration"][0]) for row in _rows_of_findings(source)]
    found: dict[int, list[int]] = {}
    for column, steps in list(pictured(source.run).items())[:_MOST_PICTURED]:
        nearest = [min(steps, key=lambda each, to=step: abs(each - to)) for step in telling]
        chosen = list(dict.fromkeys([steps[-1], *nearest, *steps]))[:_MOST_PICTURES]
        found[column] = sorted({reader.row_of(step) for step in chosen})
    return found


def _chosen_columns(source: RunSource) -> list[int]:
    """Return the parameters whose histogram, and for the first whose line, the report holds: those
    of findings, then some at equal distances.
    """
    names = {each.name: column for column, each in enumerate(source.run.parameters)}
    found = [
        names[name]
        for finding in source.verdict.findings
        for name in finding.parameters[:3]
        if name in names
    ]
    large = [
        column
        for column, each in enumerate(source.run.parameters)
        if sum(size > 1 for size in each.shape) > 1
    ]
    pool = large or list(range(len(names)))
    even = (
        [
            pool[index * (len(pool) - 1) // (_MOST_HISTOGRAMS - 1)]
            for index in range(_MOST_HISTOGRAMS)
        ]
        if pool
        else []
    )
    if len(names) <= _FEW:
        return list(dict.fromkeys([*found, *range(len(names))]))
    return list(dict.fromkeys([*found, *even]))[:_MOST_HISTOGRAMS]
