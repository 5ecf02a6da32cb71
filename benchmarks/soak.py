"""A training of very many short steps, watched: do its time per step and its memory grow?

    python -m benchmarks.soak
    python -m benchmarks.soak --seconds 3600 --keep raw=10000

A net of 16-32-1 is trained by SGD, at level `normal`. Each tenth prints the processor time that a
step takes on the training's thread and on all threads, as multiples of a fixed calculation of torch
that is timed in between (so that a machine which becomes slower or faster does not count), the
resident memory, and what the record takes on the disk. Means of each tenth.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

import seismograd

CHUNK = 500  # steps
TENTHS = 10


def training() -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], None]]:
    """Return a model, its optimizer, and a function that trains it for one step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs = torch.randn(64, 16)
    targets = torch.sin(inputs.sum(1, keepdim=True))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()

    return model, optimizer, step


def calculation() -> float:
    """Return the processor seconds that a fixed calculation takes now."""
    matrix = torch.ones(16, 16)
    began = time.thread_time()
    for _ in range(2000):
        matrix = torch.tanh(matrix)
    return time.thread_time() - began


def chunks(step: Callable[[], None]) -> Iterator[tuple[float, float]]:
    """Train, and give the processor time of a step on this thread and on all, in calculations."""
    while True:
        unit = calculation() / 2000
        thread, all_threads = time.thread_time(), time.process_time()
        for _ in range(CHUNK):
            step()
        yield (
            (time.thread_time() - thread) / CHUNK / unit,
            (time.process_time() - all_threads) / CHUNK / unit,
        )


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def size_mib(folder: Path) -> float:
    """Return the room that the files of a folder take."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) / 2**20


def soak(num_steps: int, seconds: float, keep: str | None, out: Path) -> None:
    """Train until `num_steps` are made, or `seconds` are over if that is not 0; print tenths."""
    torch.set_num_threads(1)
    model, optimizer, step = training()
    began, made, tenth = time.monotonic(), 0, 0
    firsts: tuple[float, float] = (0.0, 0.0)
    with seismograd.watch(model, optimizer, out=out, keep=keep, quiet=True):
        taken: list[tuple[float, float]] = []
        for each in chunks(step):
            taken.append(each)
            made += CHUNK
            gone = (time.monotonic() - began) / seconds if seconds else made / num_steps
            if gone * TENTHS < tenth + 1:
                continue
            tenth += 1
            thread, all_threads = (statistics.fmean(column) for column in zip(*taken, strict=True))
            firsts = (thread, all_threads) if tenth == 1 else firsts
            print(
                f"{made:>10,} steps, {time.monotonic() - began:6.0f} s: a step takes {thread:.1f} "
                f"({100 * thread / firsts[0] - 100:+.1f}%) calculations on its thread, "
                f"{all_threads:.1f} ({100 * all_threads / firsts[1] - 100:+.1f}%) on all; "
                f"memory {resident_mib():.0f} MiB, record {size_mib(out):.0f} MiB",
                flush=True,
            )
            taken.clear()
            if tenth == TENTHS:
                break
    run = seismograd.open_run(out)
    print(f"read back: {len(run.steps):,} of {made:,} steps; findings: {len(run.findings)}")


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=0.0, help="how long, in place of --steps")
    parser.add_argument("--keep", help="as `seismograd run --keep`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak(options.steps, options.seconds, options.keep, Path(folder) / "run")


if __name__ == "__main__":
    main()
