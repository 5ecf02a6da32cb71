"""Compare four micro-batches of 32 with one batch of 128: when the gradient is the same, and how
wrong it is when it is not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.control.accumulate.accumulation import accumulate
from seismograd.lab.digits import cut, digits, small_net
from seismograd.lab.tensor_math import gradient_of, norm_of, relative_error

BATCH, PART = 128, 32
SHORT = 100  # samples, so that the last of the micro-batches has 4
LABELLED = (32, 20, 8, 2)  # of the 32 samples of each micro-batch: as tokens among padding
IGNORED = -100

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class AccumulationError:
    """A way of accumulating against one batch: norm of the difference / norm, ratio of the
    norms, cosine.
    """

    error: float
    ratio: float
    cosine: float


@dataclass(frozen=True, slots=True)
class AccumulationResult:
    """The results of the experiment. `short` is of 100 samples, `uneven` of micro-batches with
    different numbers of labels.
    """

    equal: AccumulationError  # 4 × 32, each loss divided by 4
    undivided: AccumulationError
    short_by_count: AccumulationError  # each loss divided by the number of micro-batches
    short_exact: AccumulationError
    uneven_by_count: AccumulationError
    uneven_exact: AccumulationError
    held_whole: int  # bytes that autograd keeps from forward to backward, besides the weights
    held_parts: int


def measure() -> AccumulationResult:
    """Run the experiment."""
    images, labels = digits(BATCH)
    whole = (images, labels)
    short = (images[:SHORT], labels[:SHORT])
    masked = labels.clone()
    for start, count in zip(range(0, BATCH, PART), LABELLED, strict=True):
        masked[start + count : start + PART] = IGNORED
    uneven = (images, masked)
    return AccumulationResult(
        _compare(whole, by_count),
        _compare(whole, undivided),
        _compare(short, by_count),
        _compare(short, exact),
        _compare(uneven, by_count),
        _compare(uneven, exact),
        _held([whole]),
        _held(parts(whole)),
    )


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean over the samples that have a label."""
    return F.cross_entropy(model(batch[0]), batch[1], ignore_index=IGNORED)


def parts(batch: Batch) -> list[Batch]:
    """Return the batch in micro-batches of 32 and the rest."""
    return cut(*batch, PART)


def undivided(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Sum the mean losses."""
    for batch in batches:
        loss_of(model, batch).backward()


def by_count(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Divide each mean loss by the number of micro-batches: the usual way."""
    for batch in batches:
        (loss_of(model, batch) / len(batches)).backward()


class _GradientKeeper(torch.optim.Optimizer):
    """An optimizer whose step keeps the gradients that it was given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {})
        self.kept: list[Tensor] = []

    def step(self, closure: object = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keep the gradients."""
        del closure
        self.kept = [gradient_of(p).clone() for group in self.param_groups for p in group["params"]]


def exact(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Run `seismograd.accumulate`, each micro-batch weighted by its number of labels."""
    keeper = _GradientKeeper(model)
    for window in accumulate(batches, len(batches), model=model, optimizer=keeper):
        for batch in window:
            window.backward(loss_of(model, batch), weight=int((batch[1] != IGNORED).sum()))
        window.step()
    for parameter, gradient in zip(model.parameters(), keeper.kept, strict=True):
        parameter.grad = gradient


def _compare(batch: Batch, way: Callable[[nn.Module, Sequence[Batch]], None]) -> AccumulationError:
    one, other = small_net(), small_net()
    loss_of(one, batch).backward()
    way(other, parts(batch))
    expected, got = ([gradient_of(p) for p in model.parameters()] for model in (one, other))
    product = sum(
        float((a.double() * b.double()).sum()) for a, b in zip(got, expected, strict=True)
    )
    return AccumulationError(
        relative_error(got, expected),
        norm_of(*got) / norm_of(*expected),
        product / norm_of(*got) / norm_of(*expected),
    )


def _held(batches: Sequence[Batch]) -> int:
    """Return the most bytes that autograd keeps at once for a backward, excluding the weights
    themselves.
    """
    model = copy.deepcopy(small_net())
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    most = 0
    for batch in batches:
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = loss_of(model, batch)
        most = max(most, sum(kept.values()))
        loss.backward()
    return most
