"""What watching a training costs: `seismograd bench`, and beside it what a run says of itself.

    python benchmarks/watching.py            # as the tables of docs/cost.md
    python benchmarks/watching.py --threads 1 --model mlp
    python benchmarks/watching.py --model thousands   # 5,000 tensors, which the tables leave out

The first figure is the step with it over the bare step of the same round, which everything counts
in that slows the training: also the thread that records and judges, and caches that others' code
has emptied. The second is the time inside seismograd, as it is recorded, in a training that is
watched throughout. Both are of what comes behind the first hundred steps, in which the probe has
its turn at each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from seismograd.bench import cost_table
from seismograd.bench.contenders import WatchedTraining
from seismograd.bench.models import LEARNING_RATE, MODELS, Workload
from seismograd.bench.timing import STEPS, measure
from seismograd.capture.probes.update_probe import NUM_DENSE
from seismograd.record.reader import open_run
from seismograd.settings.levels import LEVELS

NUM_LAYERS = 100  # one upon the other, of 50 matrices each
NUM_MATRICES = 50


def thousands() -> Workload:
    """Return 5,000 tensors of 64 × 64, each used once: as many small ones as a large model has."""
    layers = nn.ModuleList(
        nn.ModuleList(nn.Linear(64, 64, bias=False) for _ in range(NUM_MATRICES))
        for _ in range(NUM_LAYERS)
    )
    inputs = torch.randn(8, 64)

    def loss() -> Tensor:
        x = inputs
        for layer in layers:
            assert isinstance(layer, nn.ModuleList)
            x = x + torch.stack([matrix(x) for matrix in layer]).mean(0)
        return x.square().mean()

    return Workload(
        "5,000 × Linear(64)",
        layers,
        torch.optim.AdamW(layers.parameters(), lr=LEARNING_RATE),
        loss,
        size=0.25,
    )


WORKLOADS = {**MODELS, "thousands": thousands}
# of ten steps each, in what is watched throughout, behind the first ones
NUM_TURNS = {"mlp": 30, "many": 10, "gpt": 5, "thousands": 5}


def inside(name: str, level: str, num_steps: int) -> tuple[float, float]:
    """Milliseconds a step inside seismograd, and their share of the time, in so many steps behind
    the first ones of a training that is watched throughout.
    """
    workload = WORKLOADS[name]()
    with tempfile.TemporaryDirectory() as folder:
        watched = WatchedTraining(workload, level, Path(folder))
        watched.begin()
        for _ in range(NUM_DENSE + num_steps):
            workload.optimizer.zero_grad()
            workload.loss().backward()
            workload.optimizer.step()
        watched.end()
        watched.close()
        steps = open_run(Path(folder) / level).steps[NUM_DENSE:]
        spent, wall = steps["overhead_s"][1:].sum(), steps["time_s"][-1] - steps["time_s"][0]
        return 1e3 * spent / (len(steps) - 1), spent / (wall - spent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=tuple(WORKLOADS), action="append")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = options.model or list(MODELS)
    console = Console(file=sys.stdout, width=120, highlight=False, markup=False)
    for name in names:
        console.print(
            cost_table.table([measure(WORKLOADS[name](), options.quick, lambda *_: None)])
        )
        for level in LEVELS:
            spent_ms, share = inside(name, level, NUM_TURNS[name] * STEPS)
            console.print(
                f"{name}, {level}: inside seismograd {spent_ms:.3f} ms a step, {100 * share:.1f}% "
                "of the rest"
            )


if __name__ == "__main__":
    main()
