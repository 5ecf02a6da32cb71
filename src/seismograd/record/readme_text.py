"""The text in every run directory: how to read it without seismograd."""

from __future__ import annotations

from seismograd.i18n import mark

HOW_TO_READ = mark("""\
This directory is one run recorded by seismograd. It contains plain numbers and JSON, which Python with NumPy can read:

    import json
    from pathlib import Path

    import numpy as np

    meta = json.loads(Path("meta.json").read_text("utf-8"))
    steps = np.fromfile("steps.bin", np.dtype([tuple(field) for field in meta["step_dtype"]]))
    segment = json.loads(Path("segments/0000/parameters.json").read_text("utf-8"))
    names = [parameter["name"] for parameter in segment["parameters"]]
    grad_norm = np.fromfile("segments/0000/grad_norm.f64", "<f8")
    grad_norm = grad_norm[: len(grad_norm) // len(names) * len(names)].reshape(-1, len(names))
    print(names, grad_norm[-1], steps["loss"][-1])

steps.bin       one entry per step (iteration) of the run
segments/NNNN   one directory per set of parameters: parameters.json names the columns and the first row, and each
                statistic is a file of rows with one number per parameter (`width` numbers per parameter where meta.json
                says so); the suffix of a file name is its dtype, little-endian
state.u8        what each number is (meta.json: states); there was a gradient only where it is ZERO, FINITE or NONFINITE
sample_rows.i64 the row numbers of the statistics that meta.json lists as sampled
events.bin      the recorded calls, in order; event_ends.i64 is their number up to and including each row
ranks.bin       what is known about each process of a multi-process run; rank_ends.i64 is the same for this file
elements.f64    single scalars, as named in meta.json: one row per step
levels/N.bin    a summary of the same data for fast views, 8^N rows per cell; it adds nothing that is not in the rows
checks.bin      checksums of the files beside it, for each batch that was appended; nothing else needs them
*.jsonl         one JSON object per line; NaN and the infinities are the strings "nan", "inf", "-inf"

A run that was killed may end in an incomplete row: ignore rows beyond the last entry of steps.bin.
""")

WENT_BACK = mark("""The training of this run went back to a checkpoint: of a segment, ignore rows from the first row of the next segment on.
""")
