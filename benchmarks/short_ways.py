"""What the short ways of nearly every step (`capture/steady/`) save: the time of our visits in a
step with them and without.

    python benchmarks/short_ways.py

Two recordings of one training take turns in one process; printed are the microseconds on the
training's thread that nine steps in ten exceed, as other programs disturb those least.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from torch import nn

from seismograd.bench.contenders import WatchedTraining
from seismograd.bench.models import MODELS, Workload
from seismograd.record.reader import open_run
from seismograd.settings.levels import NORMAL

WARM = 130  # steps: in the first hundred the probe comes in each
TURN = 30
WAYS = {True: "the short ways", False: "the full way"}


def train(workload: Workload, num_steps: int, clipped: bool) -> None:
    parameters = list(workload.model.parameters())
    for _ in range(num_steps):
        workload.optimizer.zero_grad()
        workload.loss().backward()
        if clipped:
            nn.utils.clip_grad_norm_(parameters, 1e9)
        workload.optimizer.step()


def visits(workload: Workload, folder: Path, num_turns: int, clipped: bool) -> dict[bool, float]:
    """Return the microseconds of each way."""
    watched: dict[bool, WatchedTraining] = {}
    for is_short in WAYS:
        made = watched[is_short] = WatchedTraining(workload, NORMAL, folder / str(is_short))
        made._recording._session._is_short = is_short  # pyright: ignore[reportPrivateUsage]
    for turn in range(num_turns + 1):
        for made in watched.values():
            made.begin()
            train(workload, TURN if turn else WARM, clipped)
            made.end()
    taken: dict[bool, float] = {}
    for is_short, made in watched.items():
        made.close()
        spent = open_run(folder / str(is_short) / NORMAL).steps["overhead_s"][WARM:]
        taken[is_short] = 1e6 * statistics.quantiles(spent.tolist(), n=10)[0]
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for clipped in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            taken = visits(MODELS["mlp"](), Path(folder), options.turns, clipped)
        said = ", ".join(f"{taken[is_short]:.0f} µs {way}" for is_short, way in WAYS.items())
        saved = 100 * (1 - taken[True] / taken[False])
        print(f"MLP{', with a clip' if clipped else ''}: {said} ({saved:.0f} % less)")


if __name__ == "__main__":
    main()
