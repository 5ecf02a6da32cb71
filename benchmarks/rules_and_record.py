"""What the thread that judges and records takes: each rule, the writer and the two pyramids, in
milliseconds a row and a block.

    python benchmarks/rules_and_record.py                       # as the table of docs/cost.md
    python benchmarks/rules_and_record.py --model many --each   # every part, the worst first
    python benchmarks/rules_and_record.py --model mlp --profile 40

A healthy training on new noisy batches is recorded once; its blocks, of as many rows as a second of
it gives, are then judged and written again. Times are those of the thread alone, medians of the
repetitions, each of which begins with rules that have seen nothing. The first two blocks, in which
parameters become known and files are made, are given by themselves.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

import seismograd
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.engine import Diagnosis
from seismograd.record.pyramid.pyramid_builder import PyramidBuilder
from seismograd.record.writer import Writer
from seismograd.rules import RULES, Rule
from seismograd.schema import AnyArray, Finding, RowBatch, RunInfo, StateArray

Times = dict[str, list[float]]  # seconds of each part, block by block
FIRST = 2  # blocks, in which files are made and parameters become known


@dataclass(frozen=True)
class Training:
    """A model, and as many steps of it as give a few blocks of a second each."""

    title: str
    make: Callable[[], nn.Module]
    inputs: int
    outputs: int
    num_steps: int
    rows: int  # of a block


def stack(num_layers: int) -> nn.Module:
    """So deep that its first layers get nothing, which a rule finds at every step."""
    return nn.Sequential(*(nn.Linear(64, 64) for _ in range(num_layers - 1)), nn.Linear(64, 10))


def residual(num_layers: int) -> nn.Module:
    """As deep, with gradients."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(num_layers - 1))
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + layer(x).relu() / num_layers
            return self.head(x)

    return Residual()


TRAININGS = {
    "mlp": Training(
        "MLP 784-256-10, 4 tensors",
        lambda: nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)),
        784,
        10,
        1400,
        350,
    ),
    "some": Training("50 residual Linear(64), 100 tensors", lambda: residual(50), 64, 10, 360, 60),
    "many": Training(
        "500 residual Linear(64), 1,000 tensors", lambda: residual(500), 64, 10, 64, 8
    ),
    "deep": Training("500 × Linear(64), 1,000 tensors", lambda: stack(500), 64, 10, 64, 8),
}
OPTIMIZERS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.05),
    "adam": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
}


def recorded(training: Training, optimizer: str, folder: Path) -> list[RowBatch]:
    """The blocks of a run that learns which of ten random vectors an input lies nearest to, a
    fifth of the labels being wrong.
    """
    torch.manual_seed(0)
    model = training.make()
    made = OPTIMIZERS[optimizer](model)
    centres = torch.randn(training.outputs, training.inputs)
    with seismograd.watch(model, made, out=folder, budget=1.0):
        for _ in range(training.num_steps):
            inputs = torch.randn(64, training.inputs)
            labels = (inputs @ centres.T).argmax(1)
            labels = torch.where(
                torch.rand(64) < 0.2, torch.randint(training.outputs, (64,)), labels
            )
            made.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            made.step()
    return list(seismograd.open_run(folder).blocks(training.rows))


def judged(blocks: Sequence[RowBatch]) -> Times:
    """Each rule, and what the engine takes beside. What rules share is counted for the first
    that asks for it.
    """
    spent: dict[str, float] = {}
    diagnosis = Diagnosis([_timed(rule, spent) for rule in RULES])
    taken: Times = defaultdict(list)
    for block in blocks:
        start_s = time.thread_time()
        diagnosis.observe(block)
        whole_s = time.thread_time() - start_s
        for name, time_s in {**spent, "engine": whole_s - sum(spent.values())}.items():
            taken[name].append(time_s)
    return taken


def _timed(rule: type[Rule], spent: dict[str, float]) -> Callable[[], Rule]:
    def make() -> Rule:
        made = rule()
        observe, name = made.observe, f"{made.code} {made.name}"

        def timed(block: SharedBlock) -> list[Finding]:
            start_s = time.thread_time()
            found = list(observe(block))
            spent[name] = time.thread_time() - start_s
            return found

        made.observe = timed  # type: ignore[method-assign]
        return made

    return make


def written(blocks: Sequence[RowBatch], info: RunInfo, folder: Path) -> Times:
    """The writer, and the pyramids that it builds."""
    pyramids_s = [0.0]
    append = PyramidBuilder.append

    def timed(self: PyramidBuilder, states: StateArray, values: Mapping[str, AnyArray]) -> None:
        start_s = time.thread_time()
        append(self, states, values)
        pyramids_s[0] += time.thread_time() - start_s

    taken: Times = {"writer": [], "pyramids": []}
    PyramidBuilder.append = timed  # type: ignore[method-assign]
    try:
        writer = Writer(folder, info)
        for block in blocks:
            start_s, pyramids_s[0] = time.thread_time(), 0.0
            writer.observe(block)
            taken["writer"].append(time.thread_time() - start_s - pyramids_s[0])
            taken["pyramids"].append(pyramids_s[0])
        writer.close()
    finally:
        PyramidBuilder.append = append  # type: ignore[method-assign]
    return taken


def both(blocks: Sequence[RowBatch], info: RunInfo, folder: Path) -> None:
    """Judge and write, as the thread does."""
    diagnosis, writer = Diagnosis(), Writer(folder, info)
    for block in blocks:
        diagnosis.observe(block)
        writer.observe(block)
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(TRAININGS), action="append")
    parser.add_argument("--optimizer", choices=tuple(OPTIMIZERS), action="append")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--rows", type=int, help="rows of a block, in place of those of a second")
    parser.add_argument("--each", action="store_true", help="every part, the worst first")
    parser.add_argument("--profile", type=int, metavar="NUM", help="so many functions of a profile")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.model or TRAININGS:
        for optimizer in options.optimizer or OPTIMIZERS:
            training = TRAININGS[name]
            with tempfile.TemporaryDirectory() as folder:
                blocks = recorded(training, optimizer, Path(folder) / "run")
                run = seismograd.open_run(Path(folder) / "run")
                found = ", ".join(finding.code for finding in run.findings) or "nothing"
                if options.rows:
                    blocks = list(run.blocks(options.rows))
                print(
                    f"\n{training.title}, {optimizer}: {run.num_rows} rows in {len(blocks)} "
                    f"blocks; found: {found}"
                )
                if options.profile:
                    profile = cProfile.Profile()
                    profile.runcall(both, blocks, run.info, Path(folder) / "profiled")
                    pstats.Stats(profile).sort_stats("tottime").print_stats(options.profile)
                    continue
                times = [
                    {**judged(blocks), **written(blocks, run.info, Path(folder) / str(number))}
                    for number in range(options.repetitions)
                ]
                show(
                    {
                        part: list(map(median, zip(*(each[part] for each in times), strict=True)))
                        for part in times[0]
                    },
                    blocks,
                    options.each,
                )


def show(taken: Times, blocks: Sequence[RowBatch], each: bool) -> None:
    num_rows, num_blocks = sum(map(len, blocks[FIRST:])), len(blocks) - FIRST
    of_rules = [times for name, times in taken.items() if name not in ("writer", "pyramids")]
    sums = {
        "rules": list(map(sum, zip(*of_rules, strict=True))),
        "writer": taken["writer"],
        "pyramids": taken["pyramids"],
    }
    sums["all"] = list(map(sum, zip(*sums.values(), strict=True)))
    lines = sorted(taken.items(), key=lambda item: -sum(item[1][FIRST:])) if each else []
    print(f"  {'ms':34} {'a row':>8} {'a block':>8} {'first two':>10}")
    for name, times in [*lines, *sums.items()]:
        later_s = sum(times[FIRST:])
        print(
            f"  {name:34} {1e3 * later_s / num_rows:8.4f} {1e3 * later_s / num_blocks:8.3f} "
            f"{1e3 * sum(times[:FIRST]):10.1f}"
        )


if __name__ == "__main__":
    main()
