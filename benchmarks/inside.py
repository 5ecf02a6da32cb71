"""Where the time of a watched step goes: what the training's own parts lose, what each part of
seismograd takes, how many calls that is.

    python benchmarks/inside.py --model mlp

Bare and watched steps take turns; of the training's own parts the times are printed that nine steps
in ten exceed, as other programs disturb those least. The parts of seismograd are means, by
themselves, without what they call; timing them costs about a microsecond a call, which is in their
figures.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.optim import adam

from seismograd.bench.contenders import WatchedTraining
from seismograd.bench.models import MODELS
from seismograd.capture.hooks.backward import BackwardHooks
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.hooks.zero_grad import ZeroGradHooks
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.clearing_tracker import ClearingTracker
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.probes.update_probe import UpdateProbe
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.session import Session
from seismograd.distributed.rank_listener import RankListener
from seismograd.measure.native.native_backend import NativeBackend
from seismograd.settings.levels import NORMAL

WARM = 130  # steps: in the first hundred the probe comes in each
TURN = 30
PARTS: tuple[tuple[type, str], ...] = (
    (Session, "_take"),
    (RankListener, "_take"),
    (BackwardHooks, "backward_begins"),
    (BackwardHooks, "backward_ends"),
    (ZeroGradHooks, "zero_grad_ends"),
    (StepHooks, "step_begins"),
    (StepHooks, "step_ends"),
    (ClearingTracker, "marks"),
    (CallSites, "here"),
    (EventLog, "record"),
    (EventLog, "scalar"),
    (GradientReader, "_reading"),
    (NativeBackend, "measure"),
    (NativeBackend, "_look_up"),
    (NativeBackend, "_call"),
    (UpdateProbe, "step_begins"),
    (UpdateProbe, "step_ends"),
    (IterationQueue, "end_iteration"),
    (IterationQueue, "_hand_on"),
)
Times = defaultdict[str, list[float]]


def low(times: list[float]) -> float:
    """Microseconds that nine in ten exceed."""
    return 1e6 * statistics.quantiles(times, n=10)[0]


@contextmanager
def replaced(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(wrapper(original)))
    try:
        yield
    finally:
        setattr(owner, name, original)


def own_parts(workload: Any, watched: WatchedTraining, num_turns: int) -> None:
    """Forward, backward and optimizer of the training, bare and watched; how many calls of
    functions a step is.
    """
    spent: dict[str, float] = {}

    def timed(part: str) -> Callable[[Any], Any]:
        def wrapper(original: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                began = perf_counter()
                result = original(*args, **kwargs)
                spent[part] = perf_counter() - began
                return result

            return call

        return wrapper

    def train(num_steps: int, times: Times) -> None:
        for _ in range(num_steps):
            began = perf_counter()
            workload.optimizer.zero_grad()
            before = perf_counter()
            loss = workload.loss()
            spent["forward"] = perf_counter() - before
            loss.backward()
            workload.optimizer.step()
            spent["step as a whole"] = perf_counter() - began
            for part, seconds in spent.items():
                times[part].append(seconds)

    def calls() -> float:
        profile = cProfile.Profile()
        profile.enable()
        train(64, defaultdict(list))
        profile.disable()
        return pstats.Stats(profile).total_calls / 64  # pyright: ignore[reportAttributeAccessIssue]

    bare: Times = defaultdict(list)
    seen: Times = defaultdict(list)
    with (
        replaced(torch.autograd, "backward", timed("backward")),
        replaced(adam, "adam", timed("optimizer")),
    ):
        train(3, defaultdict(list))
        num_bare = calls()
        watched.begin()
        train(WARM, defaultdict(list))
        num_watched = calls()
        watched.end()
        for _ in range(num_turns):
            train(TURN + 2, bare)
            watched.begin()
            train(2, defaultdict(list))
            train(TURN, seen)
            watched.end()
    print(f"calls of functions a step: {num_bare:.0f} bare, {num_watched:.0f} watched")
    for part in bare:
        without, with_it = low(bare[part]), low(seen[part])
        print(
            f"{part:16s} {without:8.0f} µs bare {with_it:8.0f} watched  "
            f"{100 * (with_it / without - 1):+5.1f}%"
        )


def our_parts(workload: Any, folder: Path, num_steps: int) -> None:
    """What each part of ours takes of a step, without the parts that it calls."""
    step: defaultdict[str, float] = defaultdict(float)
    stack: list[list[Any]] = []
    times: Times = defaultdict(list)

    def timed(part: str) -> Callable[[Any], Any]:
        def wrapper(original: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                now = perf_counter()
                if stack:
                    step[stack[-1][0]] += now - stack[-1][1]
                stack.append([part, now])
                try:
                    return original(*args, **kwargs)
                finally:
                    now = perf_counter()
                    step[part] += now - stack.pop()[1]
                    if stack:
                        stack[-1][1] = now

            return call

        return wrapper

    originals = [(owner, name, getattr(owner, name)) for owner, name in PARTS]
    for owner, name, original in originals:
        setattr(owner, name, timed(f"{owner.__name__}.{name}")(original))
    watched = WatchedTraining(workload, NORMAL, folder)  # after that, as a session holds its parts
    watched.begin()
    for number in range(WARM + num_steps):
        step.clear()
        workload.optimizer.zero_grad()
        workload.loss().backward()
        workload.optimizer.step()
        for part in {*times, *step} if number >= WARM else ():
            times[part].append(step[part])
    watched.end()
    watched.close()
    for owner, name, original in originals:
        setattr(owner, name, original)
    means = {part: 1e6 * statistics.fmean(each) for part, each in times.items()}
    for part, mean in sorted(means.items(), key=lambda item: -item[1]):
        print(f"{part:28s} {mean:7.1f} µs")
    print(f"{'together':28s} {sum(means.values()):7.1f} µs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(MODELS), default="mlp")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    workload = MODELS[options.model]()
    with tempfile.TemporaryDirectory() as folder:
        watched = WatchedTraining(workload, NORMAL, Path(folder) / "own")
        own_parts(workload, watched, options.turns)
        watched.close()
        our_parts(workload, Path(folder) / "ours", options.turns * TURN // 2)


if __name__ == "__main__":
    main()
