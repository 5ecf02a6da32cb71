"""How many Python functions of ours a steady step calls on the training's thread, and which.

    python benchmarks/calls.py
    python benchmarks/calls.py --model hundred --each

A count is exact and the same on every machine, however busy: a step is steady when nothing happens
in it that does not happen in nearly all of them, neither a sampled statistic nor rows. Counted is
every Python frame of a module of ours, those of comprehensions and of generated `__init__`s
included; what C code does is not. Python 3.12 inlines comprehensions and counts less.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from seismograd.bench.contenders import WatchedTraining
from seismograd.bench.models import LEARNING_RATE, MODELS, Workload
from seismograd.settings.levels import NORMAL

WARM = 130  # steps: in the first hundred the probe comes in each
NUM_STEPS = 20  # with a sampled one, and one with the probe, among each ten
VISITS = ("zero_grad", "backward", "clip", "step")

Function = tuple[str, str]  # module, qualified name
Calls = Counter[tuple[str, Function]]  # by the visit of the step, too


def fifty_layers() -> Workload:
    """Return 50 layers of 64 × 64, 100 tensors."""
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(50)))
    inputs = torch.randn(8, 64)
    return Workload(
        "50 × Linear(64), 100 tensors",
        model,
        torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE),
        lambda: model(inputs).square().mean(),
    )


WORKLOADS: dict[str, Callable[[], Workload]] = {"mlp": MODELS["mlp"], "hundred": fifty_layers}


class CallCounter:
    """Counts the calls of our functions while `count` runs something."""

    def __init__(self) -> None:
        self.calls: Calls = Counter()
        self._visit = ""

    def count(self, visit: str, function: Callable[[], object]) -> None:
        """Run a visit of the step."""
        self._visit = visit
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            function()
        finally:
            sys.setprofile(before)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("seismograd."):
            self.calls[self._visit, (module, frame.f_code.co_qualname)] += 1


def counted_step(workload: Workload, clipped: bool = False) -> Calls:
    """Return the calls of one step, in which the workload's forward pass is not."""
    counter = CallCounter()
    counter.count("zero_grad", workload.optimizer.zero_grad)
    loss = workload.loss()
    counter.count("backward", loss.backward)
    if clipped:
        parameters = list(workload.model.parameters())
        counter.count("clip", lambda: nn.utils.clip_grad_norm_(parameters, 1e9))
    counter.count("step", workload.optimizer.step)
    return counter.calls


def steady_steps(
    workload: Workload, folder: Path, clipped: bool = False, is_short: bool = True
) -> list[Calls]:
    """Return the calls of `NUM_STEPS` steps, watched at the normal level. Unless `is_short`, all go
    the full way.
    """
    watched = WatchedTraining(workload, NORMAL, folder)
    watched._recording._session._is_short = is_short  # pyright: ignore[reportPrivateUsage]
    watched.begin()
    try:
        for _ in range(WARM):
            counted_step(workload, clipped)
        return [counted_step(workload, clipped) for _ in range(NUM_STEPS)]
    finally:
        watched.end()
        watched.close()


def steady_step(
    workload: Workload, folder: Path, clipped: bool = False, is_short: bool = True
) -> Calls:
    """Return the calls of a steady step: the one of them with the fewest."""
    return min(steady_steps(workload, folder, clipped, is_short), key=Counter.total)


def row(name: str, calls: Calls) -> str:
    """Return a row of the table of docs/cost.md."""
    by_visit: Counter[str] = Counter()
    for (visit, _), num in calls.items():
        by_visit[visit] += num
    cells = [str(by_visit[visit]) if by_visit[visit] else "" for visit in VISITS]
    return f"| {name} | {' | '.join(cells)} | **{calls.total()}** |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(WORKLOADS), action="append")
    parser.add_argument("--each", action="store_true", help="every function by itself")
    parser.add_argument("--full-way", action="store_true", help="without short ways")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| Python calls of ours in a steady step | {' | '.join(VISITS)} | together |")
    print(f"|{'---|' * (len(VISITS) + 2)}")
    for name in options.model or WORKLOADS:
        for clipped in (False, True):
            workload = WORKLOADS[name]()
            with tempfile.TemporaryDirectory() as folder:
                calls = steady_step(workload, Path(folder) / "run", clipped, not options.full_way)
            print(row(f"{workload.name}{', with a clip' if clipped else ''}", calls))
            if options.each:
                for (visit, (module, function)), num in calls.most_common():
                    print(f"{num:5d} {visit:10s} {module}.{function}")


if __name__ == "__main__":
    main()
