"""The distribution of a gradient's scalars over the powers of two, at sampled rows."""

from __future__ import annotations

import numpy as np

from seismograd.record.reader import Run
from seismograd.schema import HISTOGRAM_BINS, FloatArray
from seismograd.views.page_api.packing import pack

_MOST_SAMPLES = 400
_MOST_COUNTS = 2_000_000  # samples times parameters times bins, read for the sum over all


def answer_histogram(run: Run, column: int, start: int, stop: int, width: int) -> bytes:
    """Return `bins` (S, W), counts at S sampled `rows`; when there are more samples than can be
    shown every nth is, and `every` says n.
    """
    num_parameters = len(run.parameters)
    if all(each.name != "exponents" for each in run.statistics) or not num_parameters:
        return pack(
            {"column": column, "every": 1, "numel": 0},
            {"rows": np.empty(0, np.int32), "bins": np.empty((0, HISTOGRAM_BINS))},
        )
    positions = [column] if column >= 0 else list(range(num_parameters))
    rows = run.row_reader.sample_rows(start, stop)
    most = min(width, _MOST_SAMPLES, max(8, _MOST_COUNTS // (HISTOGRAM_BINS * len(positions))))
    every = max(1, -(-len(rows) // most))
    shown = rows[::every]
    counts: FloatArray = run.row_reader.samples("exponents", shown, positions)  # (S, P, W)
    bins: FloatArray = np.nansum(counts, axis=1)
    bins[np.isnan(counts[:, :, 0]).all(axis=1)] = np.nan
    numel = sum(run.parameters[position].numel for position in positions)
    return pack(
        {"column": column, "every": every, "numel": numel},
        {"rows": shown.astype(np.int32), "bins": bins.astype(np.float32)},
    )
