"""What the graph shows of a loss: how many scalars it is over, and what each counts in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seismograd.capture.graph.loss_reduction import reduction_of, shape_reduced
from seismograd.schema import EventFlag
from seismograd.tensors.saved_tensors import SHOWS_DATA
from tests.capture.watched import watched

NUM, CLASSES, IGNORED = 8, 10, 3
LEAF = torch.randn(NUM, CLASSES, generator=torch.Generator().manual_seed(0)).requires_grad_()
TARGETS = torch.arange(NUM) % CLASSES
SOME = torch.cat([torch.full((IGNORED,), -100), TARGETS[IGNORED:]])
MASK = (torch.arange(NUM * CLASSES).reshape(NUM, CLASSES) % 4 == 0).float()
LEFT = float(MASK.sum())
ALL = float(NUM * CLASSES)


def x() -> Tensor:
    return LEAF * 1


def each(targets: Tensor) -> Tensor:
    return F.cross_entropy(x(), targets, reduction="none")


# loss, over how many, count * weight: 1 for a mean, 1/k for one divided by k, the count for a sum
SHOWN: dict[str, tuple[Callable[[], Tensor], float, float]] = {
    "cross entropy": (lambda: F.cross_entropy(x(), TARGETS), NUM, 1),
    "with targets to ignore": (lambda: F.cross_entropy(x(), SOME), NUM - IGNORED, 1),
    "divided by four": (lambda: F.cross_entropy(x(), SOME) / 4, NUM - IGNORED, 0.25),
    "times a quarter": (lambda: 0.25 * F.mse_loss(x(), MASK), ALL, 0.25),
    "times a tensor": (lambda: torch.tensor(8.0) * F.mse_loss(x(), MASK), ALL, 8),
    "sum": (lambda: F.cross_entropy(x(), SOME, reduction="sum"), NUM - IGNORED, NUM - IGNORED),
    "sum over the tokens of the window": (
        lambda: F.cross_entropy(x(), SOME, reduction="sum") / 50,
        NUM - IGNORED,
        (NUM - IGNORED) / 50,
    ),
    "each, then the mean": (lambda: each(TARGETS).mean(), NUM, 1),
    "each, then a sum over the valid": (
        lambda: each(SOME).sum() / (SOME != -100).sum(),
        NUM - IGNORED,
        1,
    ),
    "a mask": (lambda: (x().square() * MASK).sum() / MASK.sum(), LEFT, 1),
    "a mask, divided by four": (lambda: (MASK * x().square()).sum() / MASK.sum() / 4, LEFT, 0.25),
    "a mask, divided by as many as there are samples": (
        lambda: (MASK * x().square()).sum() / MASK.sum() / NUM,
        LEFT,
        1 / NUM,
    ),
    "a selection": (lambda: torch.mean(x()[MASK > 0]), LEFT, 1),
    "label smoothing": (lambda: F.cross_entropy(x(), TARGETS, label_smoothing=0.1), NUM, 1),
    "of a leaf": (lambda: F.mse_loss(LEAF, MASK), ALL, 1),
    "sum over samples, by hand": (lambda: F.mse_loss(x(), MASK, reduction="sum") / NUM, NUM, 1),
    "batchmean": (lambda: F.kl_div(F.log_softmax(x(), -1), MASK, reduction="batchmean"), NUM, 1),
    "an auxiliary term": (
        lambda: (F.cross_entropy(x(), TARGETS) + 0.1 * x().square().mean()) / 4,
        NUM,
        0.25,
    ),
    "half precision": (lambda: F.cross_entropy(x().bfloat16(), TARGETS).float(), NUM, 1),
    "binary": (lambda: F.binary_cross_entropy_with_logits(x(), MASK), ALL, 1),
    "likelihood by hand": (
        lambda: -torch.log_softmax(x(), -1)[torch.arange(NUM), TARGETS].mean() * 0.5,
        NUM,
        0.5,
    ),
    "sequences": (lambda: F.cross_entropy(x().view(2, CLASSES, 4), TARGETS.view(2, 4)), NUM, 1),
    "policy gradient": (
        lambda: -(torch.log_softmax(x(), -1).sum(1) * torch.ones(NUM)).mean(),
        NUM,
        1,
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_count_and_the_weight_are_those_of_the_formula(name: str) -> None:
    make, count, total = SHOWN[name]
    found = reduction_of(make())
    assert found is not None
    assert found.count.read() == count
    assert found.count.read() * found.weight.read() == pytest.approx(total)


def test_a_sum_and_a_rescaled_loss_say_so() -> None:
    summed, rescaled = (
        reduction_of(F.mse_loss(x(), MASK, reduction="sum")),
        reduction_of(F.mse_loss(x(), MASK) / 4),
    )
    assert summed is not None
    assert summed.flags == EventFlag.SUMMED
    assert rescaled is not None
    assert rescaled.flags == EventFlag.RESCALED


def test_a_loss_of_several_terms_says_so() -> None:
    entropy, square = F.cross_entropy(x(), TARGETS), F.mse_loss(x(), MASK)
    for loss, several in (
        (entropy + square, True),
        (square - 0.1 * entropy, True),
        (entropy + 3.0, False),
        (F.cross_entropy(x(), TARGETS, label_smoothing=0.1), False),
    ):
        found = reduction_of(loss)
        assert found is not None
        assert bool(found.flags & EventFlag.SEVERAL) == several


def test_the_shape_tells_the_size_of_the_batch() -> None:
    for loss_of in (
        lambda some: F.cross_entropy(some, TARGETS[: len(some)]),
        lambda some: F.mse_loss(some, MASK[: len(some)]) / 4,
        lambda some: some.square().sum() + 0.1 * some.mean(),
        lambda some: 2 - some.mean(),
    ):
        assert shape_reduced(loss_of(x())) == (NUM, CLASSES)
        assert shape_reduced(loss_of(x()[:3])) == (3, CLASSES)
    assert shape_reduced(torch.tensor(1.0)) == ()


@pytest.mark.parametrize(
    "loss", [lambda: x().norm(), lambda: F.mse_loss(x(), MASK).sqrt(), lambda: torch.tensor(1.0), x]
)
def test_what_the_graph_does_not_show_is_not_guessed(loss: Callable[[], Tensor]) -> None:
    assert reduction_of(loss()) is None


def test_a_batch_of_ignored_targets_has_no_weight() -> None:
    found = reduction_of(F.cross_entropy(x(), torch.full((NUM,), -100)))
    assert found is not None
    assert found.count.read() == 0
    assert found.weight.read() != found.weight.read()


def test_looking_recomputes_nothing_that_was_checkpointed() -> None:
    calls: list[int] = []

    def loss(given: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(given, SOME) / 4

    with watched():
        result = checkpoint(loss, x(), use_reentrant=False)
        assert isinstance(result, Tensor)
        found = reduction_of(result)
    assert len(calls) == 1
    if SHOWS_DATA:
        assert found is not None
        assert (math.isnan(found.count.read()), math.isnan(found.weight.read())) == (True, True)
        assert found.flags == EventFlag.RESCALED  # the division was seen, what is behind it was not
    else:
        assert found is None


class Opaque(torch.autograd.Function):
    """A loss whose graph shows nothing, as that of a compiled model."""

    @staticmethod
    def forward(ctx: Any, given: Tensor) -> Tensor:  # type: ignore[override]
        return given.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad.expand(NUM, 3)


def test_a_division_is_seen_where_what_it_divides_is_not() -> None:
    opaque: Tensor = Opaque.apply(x())
    assert reduction_of(opaque) is None
    for loss in (opaque / 2, 0.5 * opaque, (opaque / 2).clone(), opaque / 2 + x().norm()):
        found = reduction_of(loss)
        assert found is not None
        assert found.flags == EventFlag.RESCALED
        assert math.isnan(found.weight.read())
