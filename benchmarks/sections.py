"""What each call of a training takes longer while it is watched, beside a loop that asks every
gradient for its norm.

    python benchmarks/sections.py
    python benchmarks/sections.py --batches 4    # each step on the sum of so many losses

Bare steps, steps with that loop and watched steps take turns in one process. Printed are the
microseconds that nine steps in ten exceed, as other programs disturb those least, and at last the
processor time of the training's thread with everything in it that does not happen at each step,
and what of it Python's collector of cycles takes.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from seismograd.bench.contenders import WatchedTraining
from seismograd.bench.models import MODELS, Workload
from seismograd.settings.levels import NORMAL

WARM = 130  # steps: in the first hundred the probe comes in each
SETTLE, TURN = 3, 60
BARE, NORMS, WATCHED = "bare", "norm loop", "watched"
Times = defaultdict[str, list[float]]


def train(
    workload: Workload,
    num_steps: int,
    times: Times,
    asks_norms: bool = False,
    num_batches: int = 1,
) -> None:
    """Make steps, and add what each of their calls takes, those of all batches of a step."""
    clock, optimizer = time.perf_counter, workload.optimizer
    parameters = list(workload.model.parameters())
    for _ in range(num_steps):
        began = clock()
        optimizer.zero_grad()
        cleared = backward = clock()
        forward_s = backward_s = 0.0
        for _ in range(num_batches):
            loss = workload.loss() if num_batches == 1 else workload.loss() / num_batches
            forward = clock()
            loss.backward()
            forward_s += forward - backward
            backward = clock()
            backward_s += backward - forward
        if asks_norms:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.norm().item()
        asked = clock()
        optimizer.step()
        ended = clock()
        times["zero_grad"].append(cleared - began)
        times["forward"].append(forward_s)
        times["backward"].append(backward_s)
        times["optimizer.step"].append(ended - asked)
        times["together"].append(ended - began)


class CollectorTime:
    """Adds up what Python's collector of cycles takes."""

    def __init__(self) -> None:
        self.taken_s = self._began_s = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
        else:
            self.taken_s += time.perf_counter() - self._began_s


def low(times: list[float]) -> float:
    """Microseconds that nine in ten exceed."""
    return 1e6 * statistics.quantiles(times, n=10)[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(MODELS), default="mlp")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--batches", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload, num_batches = MODELS[options.model](), options.batches
    kinds = (BARE, NORMS, WATCHED)
    times: dict[str, Times] = {kind: defaultdict(list) for kind in kinds}
    processor, collected = dict.fromkeys(kinds, 0.0), {kind: CollectorTime() for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        watched = WatchedTraining(workload, NORMAL, Path(folder) / "run")
        watched.begin()
        train(workload, WARM, defaultdict(list), num_batches=num_batches)
        watched.end()
        for _ in range(options.turns):
            for kind in kinds:
                if kind == WATCHED:
                    watched.begin()
                train(workload, SETTLE, defaultdict(list), kind == NORMS, num_batches)
                gc.callbacks.append(collected[kind])
                began = time.thread_time()
                train(workload, TURN, times[kind], kind == NORMS, num_batches)
                processor[kind] += time.thread_time() - began
                gc.callbacks.remove(collected[kind])
                if kind == WATCHED:
                    watched.end()
        watched.close()
    print(f"| µs | {' | '.join(kinds)} |\n|{'---|' * 4}")
    for section in times[BARE]:
        print(f"| {section} | {' | '.join(f'{low(times[kind][section]):.0f}' for kind in kinds)} |")
    more = ", ".join(
        f"{kind} {100 * (processor[kind] / processor[BARE] - 1):+.0f} %" for kind in kinds[1:]
    )
    print(f"processor time of the training's thread over the bare steps: {more}")
    num_steps = options.turns * TURN
    each = ", ".join(f"{kind} {1e6 * collected[kind].taken_s / num_steps:.1f}" for kind in kinds)
    print(f"of it the collector of cycles, µs a step: {each}")


if __name__ == "__main__":
    main()
