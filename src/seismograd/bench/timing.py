"""Time each contender's steps in turn with those of all others, so that other load on the machine
affects all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from seismograd.bench.contenders import Contender, contenders
from seismograd.bench.models import Workload

WARM_S = 3.0  # of each contender, at most, before it is timed
STEPS = 10  # of each turn: of sampled statistics every tenth step has its share
SETTLE_S = 0.5  # at most, before each turn
QUIET_S = 1e-2  # a look, longer than the times at which the processor time of threads is noted
IDLE_SHARE = 0.1  # of a look, which is no work
ROUNDS, QUICK_ROUNDS = 15, 3
MIN_ROUNDS = 3


Times = tuple[float, float]  # wall, processor: seconds a step


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, and the quartiles around it."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(values: list[float]) -> Spread:
        """Return the spread of at least one value."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(low, median, high)


@dataclass(frozen=True, slots=True)
class Cost:
    """The time of a step with one contender (seconds), and its excess over the bare step of the
    same round, as a share of that.

    `processor_share` is that of the processor time of all threads, which other programs disturb
    less.
    """

    name: str
    step_s: Spread
    share: Spread
    processor_share: Spread


@dataclass(frozen=True, slots=True)
class Result:
    """The costs of all contenders beside one model; the bare step is the first. `failed` are
    those that could not begin.
    """

    model: str
    num_tensors: int
    num_scalars: int
    num_rounds: int
    costs: tuple[Cost, ...]
    failed: tuple[str, ...]


def measure(
    workload: Workload,
    quick: bool,
    tick: Callable[[str, int, int], None],
    listed: Callable[[Workload, ExitStack], tuple[list[Contender], list[str]]] = contenders,
) -> Result:
    """Time all contenders beside this model; `tick(model, done, of)` is called after each turn.
    `listed`: returns them, the bare step first, and the names of those that could not begin.
    """
    num_rounds = max(MIN_ROUNDS, round((QUICK_ROUNDS if quick else ROUNDS) * workload.size))
    with ExitStack() as closing:
        found, failed = listed(workload, closing)
        times: dict[str, list[Times]] = {contender.name: [] for contender in found}
        num_turns = (num_rounds + 1) * len(found)
        for number in range(num_turns):
            turn, position = divmod(number, len(found))
            contender = found[(position + turn) % len(found)]  # each round begins with another one
            if turn == 0:
                _warm_up(workload, contender)
            else:
                times[contender.name].append(_turn(workload, contender))
            tick(workload.name, number + 1, num_turns)
    bare = times[found[0].name]
    costs = tuple(
        Cost(
            name,
            Spread.of([wall_s for wall_s, _ in taken]),
            _over(taken, bare, 0),
            _over(taken, bare, 1),
        )
        for name, taken in times.items()
    )
    return Result(
        workload.name, workload.num_tensors, workload.num_scalars, num_rounds, costs, tuple(failed)
    )


def _over(taken: list[Times], bare: list[Times], which: int) -> Spread:
    return Spread.of([one[which] / base[which] - 1 for one, base in zip(taken, bare, strict=True)])


def _warm_up(workload: Workload, contender: Contender) -> None:
    """Make the steps after which every further one costs the contender alike, as far as there is
    time for them.
    """
    began = time.perf_counter()
    contender.begin()
    try:
        for number in range(max(STEPS, contender.num_warm)):
            if number >= STEPS and time.perf_counter() - began > WARM_S:
                break
            _step(workload, contender)
    finally:
        contender.end()


def _turn(workload: Workload, contender: Contender) -> Times:
    """Return the seconds a step takes of wall and of processor time, over `STEPS` steps after one
    to warm up.
    """
    _settle()
    contender.begin()
    try:
        _step(workload, contender)
        _wait()
        began, processor = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            _step(workload, contender)
        _wait()
        return (time.perf_counter() - began) / STEPS, (time.process_time() - processor) / STEPS
    finally:
        contender.end()


def _settle() -> None:
    """Wait until no thread works any more that the last contender has left behind: one of NumPy's
    BLAS, which TensorBoard's histograms call, turns for a tenth of a second before it sleeps.
    """
    until = time.perf_counter() + SETTLE_S
    while time.perf_counter() < until:
        processor = time.process_time()
        time.sleep(QUIET_S)
        if time.process_time() - processor < IDLE_SHARE * QUIET_S:
            break


def _step(workload: Workload, contender: Contender) -> None:
    workload.optimizer.zero_grad()
    workload.loss().backward()
    contender.look()
    workload.optimizer.step()


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
