"""The gradients of single units as pictures for the page."""

from __future__ import annotations

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.record.reader import Run
from seismograd.views.page_api.packing import pack
from seismograd.views.unit_pictures import read_pictures


def answer_picture(run: Run, column: int, row: int) -> bytes:
    """Return the shown units of a weight in the snapshot nearest to a row, and of each its numbers:
    `codes` (K, planes, height, width).

    Where there is no picture the step is -1.
    """
    steps = run.row_reader.steps(row, row + 1)["iteration"]
    try:
        found = read_pictures(run, column, int(steps[0])) if len(steps) else None
    except SeismogradError:  # damaged, or removed by now as `every=N` does
        found = None
    if found is None:
        return pack({"step": -1, "column": column})
    return pack(
        {
            "step": found.step,
            "column": column,
            "units": found.num_units,
            "zero_units": found.num_zero_units,
        },
        {
            "unit": found.units.astype(np.int32),
            "norm": found.norms,
            "largest": found.largest,
            "zeros": found.zeros,
            "nonfinite": found.nonfinite,
            "codes": found.codes,
        },
    )
