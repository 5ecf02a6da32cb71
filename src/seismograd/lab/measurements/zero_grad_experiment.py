"""Show why gradients are cleared, what happens when they are not or in the wrong place, and what
`set_to_none` saves.
"""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.lab.digits import cut, digits, small_net
from seismograd.lab.tensor_math import gradient_of, norm_of, relative_error

BATCH, STEPS, LEARNING_RATE = 64, 120, 0.5
EPOCH = 30  # steps: the digits are seen four times
TRACED, CLIPPED_TO = (0, 4), 0.5  # the scalar of fc2.weight that is followed
WIDE, REPEATS = 1024, 7  # number of timed rounds

Place = Literal["before backward", "each epoch", "never", "before step"]


@dataclass(frozen=True, slots=True)
class Training:
    """The same training with `zero_grad` in one place: loss and norm of what the optimizer
    consumed, each step  # (STEPS,).
    """

    losses: tuple[float, ...]
    norms: tuple[float, ...]  # 0 where there was no gradient
    moved: float  # ‖weights after - before‖


@dataclass(frozen=True, slots=True)
class CallTrace:
    """A call of the loop, and one scalar after it: of `.grad` (`None` where there is none), and of
    the weight.
    """

    call: str
    gradient: float | None
    weight: float


@dataclass(frozen=True, slots=True)
class ClearingCost:
    """A way of clearing: seconds of `zero_grad`, of the backward after it, and bytes in `.grad`
    in between.
    """

    zero_grad_s: float
    backward_s: float
    held: int


@dataclass(frozen=True, slots=True)
class ZeroGradResult:
    """The results of the experiment."""

    right: Training
    each_epoch: Training
    missing: Training
    misplaced: Training
    sum_error: float  # the third gradient without clearing against the sum of the three
    trace: tuple[CallTrace, ...]
    to_none: ClearingCost
    to_zero: ClearingCost
    default: bool  # of set_to_none in this torch
    torch_version: str


def measure() -> ZeroGradResult:
    """Run the experiment."""
    to_none, to_zero = _timed()
    default = inspect.signature(torch.optim.Optimizer.zero_grad).parameters["set_to_none"].default
    return ZeroGradResult(
        train("before backward"),
        train("each epoch"),
        train("never"),
        train("before step"),
        _sum_error(),
        _trace(),
        to_none,
        to_zero,
        bool(default),
        torch.__version__,
    )


def train(position: Place) -> Training:
    """Train the small network on the digits, with gradients cleared in that place."""
    batches = cut(*digits(BATCH * EPOCH), BATCH)
    model = small_net()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    losses: list[float] = []
    norms: list[float] = []
    for step in range(STEPS):
        inputs, targets = batches[step % EPOCH]
        if position == "before backward" or (position == "each epoch" and step % EPOCH == 0):
            optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        if position == "before step":
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
        norms.append(norm_of(*(p.grad for p in model.parameters() if p.grad is not None)))
        optimizer.step()
    moved = norm_of(*(p - b for p, b in zip(model.parameters(), before, strict=True)))
    return Training(tuple(losses), tuple(norms), moved)


def _trace() -> tuple[CallTrace, ...]:
    """Return what each call of a step with two micro-batches and a clip does to one scalar of
    fc2.weight.
    """
    (first, second), model = cut(*digits(2 * BATCH), BATCH), small_net()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    trace: list[CallTrace] = []

    def note(call: str) -> None:
        weight = model.fc2.weight
        gradient = None if weight.grad is None else float(weight.grad[TRACED])
        trace.append(CallTrace(call, gradient, float(weight.detach()[TRACED])))

    for position, (inputs, targets) in enumerate((first, second)):
        (F.cross_entropy(model(inputs), targets) / 2).backward()
        note(f"(loss{position + 1} / 2).backward()")
    nn.utils.clip_grad_norm_(model.parameters(), CLIPPED_TO)
    note(f"clip_grad_norm_(…, {CLIPPED_TO:g})")
    optimizer.step()
    note("optimizer.step()")
    optimizer.zero_grad()
    note("optimizer.zero_grad()")
    return tuple(trace)


def _sum_error() -> float:
    """Check that without clearing the third gradient is the sum of all three, computed one by one;
    return the error.
    """
    images, labels = digits(3 * BATCH)
    parts = cut(images, labels, BATCH)
    model = small_net()
    total = [torch.zeros_like(p) for p in model.parameters()]
    for inputs, targets in parts:
        gradients = torch.autograd.grad(
            F.cross_entropy(model(inputs), targets), list(model.parameters())
        )
        total = [a + b for a, b in zip(total, gradients, strict=True)]
    for inputs, targets in parts:
        F.cross_entropy(model(inputs), targets).backward()
    return relative_error([gradient_of(p) for p in model.parameters()], total)


def _timed() -> tuple[ClearingCost, ClearingCost]:
    """Time `set_to_none=True` and `False` in turn, so that both have the same machine."""
    model = nn.Sequential(nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE))
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    inputs = torch.ones(BATCH, WIDE)
    times: dict[bool, list[tuple[float, float, int]]] = {True: [], False: []}
    for number_of in range(REPEATS + 1):
        for to_none in (True, False):
            model(inputs).sum().backward()  # so that there is something to clear
            began = time.perf_counter()
            optimizer.zero_grad(set_to_none=to_none)
            cleared = time.perf_counter()
            held = _held(model)
            loss = model(inputs).sum()
            forward = time.perf_counter()
            loss.backward()
            ended = time.perf_counter()
            if number_of:  # the first round warms up
                times[to_none].append((cleared - began, ended - forward, held))
            optimizer.zero_grad()
    return _median(times[True]), _median(times[False])


def _held(model: nn.Module) -> int:
    grads: list[Tensor] = [p.grad for p in model.parameters() if p.grad is not None]
    return sum(g.numel() * g.element_size() for g in grads)


def _median(times: Sequence[tuple[float, float, int]]) -> ClearingCost:
    return ClearingCost(
        statistics.median(t[0] for t in times),
        statistics.median(t[1] for t in times),
        max(t[2] for t in times),
    )
