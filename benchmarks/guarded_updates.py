"""What `--guard` would have left out of recorded trainings as exploded: its thresholds on the norms
that optimizers were given.

    python benchmarks/guarded_updates.py runs other/runs          (default: runs)

"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

import seismograd
from seismograd.capture.guard.update_judge import UpdateJudge
from seismograd.errors import SeismogradError
from seismograd.record.reader import Run


def exploded(run: Run) -> list[tuple[int, int]]:
    """Return the step and the optimizer of each update that would have been left out."""
    columns: dict[int, list[int]] = defaultdict(list)
    for column, parameter in enumerate(run.parameters):
        if parameter.optimizer is not None:
            columns[parameter.optimizer].append(column)
    norms = run.series("applied_norm")
    found: list[tuple[int, int]] = []
    for optimizer, own in columns.items():
        judge = UpdateJudge()
        for row, norm in enumerate(np.sqrt(np.nansum(norms[:, own] ** 2, axis=1))):
            if judge.usual(float(norm)) is not None:
                found.append((int(run.steps["iteration"][row]), optimizer))
    return found


def main(folders: list[str]) -> None:
    """Print how many updates of how many runs would have been left out."""
    steps: dict[bool, int] = defaultdict(int)
    runs: dict[bool, int] = defaultdict(int)
    hit: dict[bool, list[str]] = defaultdict(list)
    for file in sorted(each for folder in folders for each in Path(folder).rglob("steps.bin")):
        try:
            run = seismograd.open_run(file.parent)
            left_out = exploded(run)
        except SeismogradError:
            continue
        has_finding = bool(run.findings)
        runs[has_finding] += 1
        steps[has_finding] += run.num_rows
        if left_out:
            hit[has_finding].append(f"{file.parent.name}: {len(left_out)} of {run.num_rows}")
    for has_finding, name in ((False, "without a finding"), (True, "with findings")):
        print(
            f"runs {name}: {runs[has_finding]}, steps: {steps[has_finding]:,}, "
            f"with updates left out: {len(hit[has_finding])}"
        )
        for line in hit[has_finding]:
            print(f"    {line}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["runs"])
