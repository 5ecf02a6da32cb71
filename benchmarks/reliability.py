"""Kill, cut off and wear out recordings, and count what was lost: the figures of
docs/reliability.md.

    python benchmarks/reliability.py kills [NUMBER]     processes killed at random moments
    python benchmarks/reliability.py cuts [NUMBER]      records cut at random bytes, all files
    python benchmarks/reliability.py flips [NUMBER]     records with one bit flipped
    python benchmarks/reliability.py scale [STEPS ...]  time to open, draw and zoom; a record each
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.record.reader import Run, open_run
from seismograd.record.writer import Writer
from seismograd.schema import (
    EVENT_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    Parameter,
    RowBatch,
    RunInfo,
    State,
    no_pairs,
    no_ranks,
)

INFO = RunInfo("train.py", "2026-01-02T03:04:05+00:00", "0.1.0", "2.13.0", "3.11.9", "normal", 1)
LONGEST_S = 0.4  # a killed process lives


def batch(first: int, num_rows: int, num_parameters: int) -> RowBatch:
    """Return rows whose numbers follow from their own number."""
    rows = np.arange(first, first + num_rows)
    steps: AnyArray = np.zeros(num_rows, STEP_DTYPE)
    steps["iteration"] = steps["step"] = rows
    steps["loss"] = rows * 0.5
    norms = rows[:, None] + np.arange(1, num_parameters + 1) / 2.0**14
    values = {each.name: norms.astype(each.dtype) for each in STATISTICS if not each.sampled}
    return RowBatch(
        parameters=_parameters(num_parameters),
        steps=steps,
        state=np.full(norms.shape, State.FINITE, np.uint8),
        values=values,
        sample_rows=np.empty(0, np.int64),
        samples={},
        events=np.zeros(0, EVENT_DTYPE),
        elements=np.zeros((num_rows, 0)),
        sites=(),
        optimizers=(),
        ranks=no_ranks(),
        pairs=no_pairs(),
    )


_KNOWN: dict[int, tuple[Parameter, ...]] = {}


def _parameters(num: int) -> tuple[Parameter, ...]:
    if num not in _KNOWN:
        _KNOWN[num] = tuple(
            Parameter(f"layer.{index}.weight", (8, 8), "float32", 64, "Linear", depth=index)
            for index in range(num)
        )
    return _KNOWN[num]


def num_wrong(run: Run) -> int:
    """Return how many numbers are shown that were not written."""
    rows = run.steps["iteration"].astype(np.float64)
    expected = rows[:, None] + np.arange(1, len(run.parameters) + 1) / 2.0**14
    norms = run.series("grad_norm")
    wrong = (norms != expected) & ~np.isnan(norms)
    losses = run.steps["loss"]
    return int(wrong.sum()) + int(((losses != rows * 0.5) & ~np.isnan(losses)).sum())


def kills(number: int) -> None:
    """Kill processes that record, each at a random moment, and read back what they had flushed."""
    lost = wrong = unopened = at_once = 0
    for trial in range(number):
        with TemporaryDirectory() as folder:
            path, (reading, writing) = Path(folder) / "run", os.pipe()
            process = os.fork()
            if not process:
                _record_for_ever(path, writing, trial)
            os.close(writing)
            time.sleep(random.Random(trial).uniform(0, LONGEST_S))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            with os.fdopen(reading, "rb") as told:
                flushed = len(told.read())
            try:
                run = open_run(path)
            except SeismogradError:
                unopened += path.exists() and any(path.iterdir())
                continue
            at_once += not run.num_rows
            lost += run.num_rows < flushed
            wrong += num_wrong(run) > 0
    print(
        f"killed: {number}, of them before the first step: {at_once}, lost a flushed step: {lost}, "
        f"showed a wrong number: {wrong}, did not open: {unopened}"
    )


def _record_for_ever(path: Path, told: int, seed: int) -> None:
    sizes, row = random.Random(seed), 0
    writer = Writer(path, INFO)
    while True:
        num_rows = sizes.randint(1, 20)
        writer.observe(batch(row, num_rows, 20))
        row += num_rows
        os.write(told, bytes(num_rows))


def cuts(number: int) -> None:
    """Cut every file of a record at a random byte of its last tenth."""

    def cut(record: Path, chance: random.Random) -> None:
        for path in record.rglob("*"):
            if path.is_file() and path.suffix != ".json":
                size = path.stat().st_size
                os.truncate(path, chance.randint(size - size // 10, size))

    _harm("cut", number, cut)


def flips(number: int) -> None:
    """Flip one bit of a file of a record, files with more bytes more often."""

    def flip(record: Path, chance: random.Random) -> None:
        files = sorted(path for path in record.rglob("*") if path.is_file() and path.stat().st_size)
        (path,) = chance.choices(files, [each.stat().st_size for each in files])
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)

    _harm("flipped", number, flip)


def _harm(word: str, number: int, harm: Callable[[Path, random.Random], None]) -> None:
    refused = wrong = 0
    with TemporaryDirectory() as folder:
        healthy, record = Path(folder) / "healthy", Path(folder) / "run"
        writer = Writer(healthy, INFO)
        for first in range(0, 1000, 20):
            writer.observe(batch(first, 20, 20))
        writer.close()
        for trial in range(number):
            shutil.copytree(healthy, record)
            harm(record, random.Random(trial))
            try:
                wrong += num_wrong(open_run(record)) > 0
            except SeismogradError:
                refused += 1
            shutil.rmtree(record)
    print(f"{word}: {number}, refused in a line: {refused}, showed a wrong number: {wrong}")


def scale(sizes: list[int]) -> None:
    """Write whole records of 20 parameters, and time what a page asks for; then what writing
    costs for 1,000 parameters.
    """
    for num_steps in sizes:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            writer = Writer(path, INFO)
            for first in range(0, num_steps, 500):
                writer.observe(batch(first, 500, 20))
            writer.close()
            asked = {
                "open": lambda run: None,
                "overview": lambda run: run.levels.parameters("grad_norm", 0, run.num_rows, 800),
                "one line": lambda run: run.levels.parameters(
                    "grad_norm", 0, run.num_rows, 800, [5]
                ),
                "zoom": lambda run: run.levels.parameters(
                    "grad_norm", run.num_rows // 2, run.num_rows // 2 + 900, 800
                ),
            }
            for name, ask in asked.items():
                print(f"{num_steps:,} steps, {name}: {1e3 * _fastest(path, ask):.1f} ms")
    with TemporaryDirectory() as folder:
        writer, taken = Writer(Path(folder) / "run", INFO), []
        for first in range(0, 2000, 50):
            made = batch(first, 50, 1000)
            before = time.perf_counter()
            writer.observe(made)
            taken.append(time.perf_counter() - before)
        writer.close()
        print(f"writing 1,000 parameters: {1e3 * statistics.median(taken) / 50:.3f} ms a step")


def _fastest(path: Path, ask: Callable[[Run], object]) -> float:
    """Return the least processor time of some tries: what else the machine does is not in it."""
    taken: list[float] = []
    for _ in range(25):
        began = time.process_time()
        ask(open_run(path))
        taken.append(time.process_time() - began)
    return min(taken)


if __name__ == "__main__":
    given = [float(each) for each in sys.argv[2:]]
    if sys.argv[1] == "scale":
        scale([int(each) for each in given] or [10_000, 1_000_000])
    else:
        chosen = {"kills": kills, "cuts": cuts, "flips": flips}
        chosen[sys.argv[1]](int(given[0]) if given else 500)
