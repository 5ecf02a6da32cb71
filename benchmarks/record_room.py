"""What records take of the disk where that is bounded: figures of docs/reliability.md.

python -m benchmarks.record_room keep             records that keep the raw values of the last steps
python -m benchmarks.record_room growth [STEPS]   a program that adds a parameter at each step
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.reliability import INFO, batch
from seismograd.record.writer import Writer
from seismograd.schema import STATISTICS, RowBatch
from seismograd.schema.statistics import SAMPLE_EVERY
from seismograd.settings.record_settings import RecordSettings

AT_ONCE = 100
# steps, parameters, whether with sampled statistics, `--keep raw=`
KEPT = (
    (200_000, 50, False, 10_000),
    (100_000, 50, False, 1_000),
    (100_000, 50, True, 1_000),
    (10_000, 1_000, True, 1_000),
)


def keep() -> None:
    """Write each record whole, and with the raw values of its last steps."""
    for num_steps, num_parameters, has_samples, kept in KEPT:
        samples = "with" if has_samples else "without"
        print(f"{num_steps:,} steps of {num_parameters:,} parameters, {samples} samples")
        for keep_raw in (None, kept):
            said = written(num_steps, num_parameters, has_samples, keep_raw)
            print(f"    {f'raw={keep_raw}' if keep_raw else 'whole'}: {said}")


def written(num_steps: int, num_parameters: int, has_samples: bool, keep_raw: int | None) -> str:
    """Return how much a record takes, and the processor's time to write a step of it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        writer, taken = Writer(path, INFO, RecordSettings(keep_raw=keep_raw)), 0.0
        for made in batches(num_steps, num_parameters, has_samples):
            before = time.process_time()
            writer.observe(made)
            taken += time.process_time() - before
        writer.close()
        return f"{room(path)}, {1e6 * taken / num_steps:.1f} µs a step to write"


def batches(num_steps: int, num_parameters: int, has_samples: bool) -> Iterator[RowBatch]:
    """Yield the steps, with the sampled statistics of every tenth on request."""
    rows = np.arange(0, AT_ONCE, SAMPLE_EVERY)
    samples = {
        each.name: np.ones((len(rows), num_parameters, each.width), each.dtype).reshape(
            (len(rows), num_parameters, *([each.width] if each.width > 1 else []))
        )
        for each in STATISTICS
        if each.sampled
    }
    for first in range(0, num_steps, AT_ONCE):
        made = batch(first, AT_ONCE, num_parameters)
        if has_samples:
            made.steps["sampled"][rows] = 1
            made = replace(made, sample_rows=rows, samples=samples)
        yield made


def growth(num_steps: int) -> None:
    """Watch a training that adds a layer's weight at each step."""
    import torch

    import seismograd

    torch.set_num_threads(1)
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(8, 8))])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        with seismograd.watch(model, optimizer, out=path, quiet=True):
            for _ in range(num_steps):
                optimizer.zero_grad()
                torch.stack([each.square().sum() for each in model]).sum().backward()
                optimizer.step()
                model.append(torch.nn.Parameter(torch.ones(8, 8)))
                optimizer.add_param_group({"params": [model[-1]]})
        segments = list((path / "segments").iterdir())
        print(
            f"{num_steps} steps, each with a parameter more: {len(segments)} segments, {room(path)}"
        )


def room(path: Path) -> str:
    """Return how much of the disk a record takes."""
    files = [each for each in path.rglob("*") if each.is_file()]
    return f"{len(files)} files, {sum(each.stat().st_size for each in files) / 1e6:.0f} MB"


if __name__ == "__main__":
    if sys.argv[1:] == ["keep"]:
        keep()
    else:
        growth(int(sys.argv[2]) if len(sys.argv) > 2 else 600)
