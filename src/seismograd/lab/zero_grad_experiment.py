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

from seismograd.i18n import say
from seismograd.lab.digits import cut, digits, small_net
from seismograd.lab.lab_page import Chart, ChartSeries, Page, PageTable, Paragraph, number
from seismograd.lab.tensor_math import gradient_of, norm_of, relative_error

BATCH, STEPS, LEARNING_RATE = 64, 60, 0.1
WIDE, REPEATS = 1024, 7  # number of timed rounds

Place = Literal["before backward", "never", "before step"]


@dataclass(frozen=True, slots=True)
class Training:
    """The same training with `zero_grad` in one place: loss and norm of what the optimizer
    consumed, each step  # (STEPS,).
    """

    losses: tuple[float, ...]
    norms: tuple[float, ...]  # 0 where there was no gradient
    moved: float  # ‖weights after - before‖


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
    missing: Training
    misplaced: Training
    sum_error: float  # the third gradient without clearing against the sum of the three
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
        train("never"),
        train("before step"),
        _sum_error(),
        to_none,
        to_zero,
        bool(default),
        torch.__version__,
    )


def train(position: Place) -> Training:
    """Train the small network on the digits, with gradients cleared in that place."""
    images, labels = digits(BATCH * STEPS)
    model = small_net()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    losses: list[float] = []
    norms: list[float] = []
    for inputs, targets in cut(images, labels, BATCH):
        if position == "before backward":
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


def describe(found: ZeroGradResult) -> Page:
    """Return the page that describes the results."""
    trainings = (
        (say("before backward (correct)"), found.right),
        (say("never"), found.missing),
        (say("between backward and step"), found.misplaced),
    )
    steps = list(range(STEPS))
    return Page(
        say("zero_grad: why gradients are cleared, and where"),
        (
            Paragraph(
                say(
                    "backward() adds to .grad and does not overwrite it. This allows several "
                    "micro-batches, or several losses, to make up one step. But step() cannot know "
                    "when the sum is complete, so you have to clear the gradients yourself. "
                    "Without clearing, the third gradient is the sum of all three (error "
                    "{error:.0e}).",
                    error=found.sum_error,
                )
            ),
            PageTable(
                (
                    say("zero_grad"),
                    say("loss, first step"),
                    say("loss, step {step}", step=STEPS - 1),
                    say("norm, first step"),
                    say("norm, step {step}", step=STEPS - 1),
                    say("change of the weights"),
                ),
                [
                    (
                        name,
                        *(
                            number(x)
                            for x in (t.losses[0], t.losses[-1], t.norms[0], t.norms[-1], t.moved)
                        ),
                    )
                    for name, t in trainings
                ],
            ),
            Chart(
                say("Loss by step"),
                say("step"),
                [ChartSeries(name, steps, t.losses) for name, t in trainings],
            ),
            Paragraph(
                say(
                    "If gradients are never cleared, every old gradient stays in the sum: the norm "
                    "grows from {first:.3g} to {last:.3g}, while it is {right:.3g} with clearing, "
                    "and the updates keep following directions that are long out of date. If they "
                    "are cleared between backward and step, step() has nothing to apply: the "
                    "weights moved by {moved:g}. PyTorch reports an error in neither case.",
                    first=found.missing.norms[0],
                    last=found.missing.norms[-1],
                    right=found.right.norms[-1],
                    moved=found.misplaced.moved,
                )
            ),
            PageTable(
                (
                    "zero_grad(set_to_none=…)",
                    say("time"),
                    say("next backward"),
                    say("bytes in .grad in between"),
                ),
                [
                    (
                        name,
                        f"{c.zero_grad_s * 1e6:,.0f} µs",
                        f"{c.backward_s * 1e6:,.0f} µs",
                        f"{c.held:,}",
                    )
                    for name, c in (("True", found.to_none), ("False", found.to_zero))
                ],
            ),
            Paragraph(
                say(
                    "set_to_none=True drops the tensors; False fills them with zeros, to which the "
                    "next backward adds (medians of {repeats} repetitions on this machine, with "
                    "two layers of width {wide}). In torch {version}, which ran this experiment, "
                    "the default is {default}; it has been True since 2.0, so plain zero_grad() "
                    "drops the tensors. Afterwards .grad is None, not zero: an optimizer skips "
                    "such a parameter, while with zeros it would still apply momentum and weight "
                    "decay.",
                    repeats=REPEATS,
                    wide=WIDE,
                    version=found.torch_version,
                    default=str(found.default),
                )
            ),
        ),
        (
            (
                say("Find it in a training run without changing the script:"),
                "seismograd run train.py",
            ),
            (
                say("How the rules recognise gradients that are not cleared:"),
                "seismograd explain SG301",
            ),
        ),
    )
