"""Four micro-batches of 32 instead of one batch of 128: when the gradient is the same, and how
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
from seismograd.i18n import Message, say
from seismograd.lab.digits import cut, digits, small_net
from seismograd.lab.lab_page import Chart, ChartSeries, Page, PageTable, Paragraph, number
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
    """What the experiment found. `short` is of 100 samples, `uneven` of micro-batches with
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
    """Run it."""
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
    """The mean over the samples that have a label."""
    return F.cross_entropy(model(batch[0]), batch[1], ignore_index=IGNORED)


def parts(batch: Batch) -> list[Batch]:
    """The batch in micro-batches of 32 and what is left."""
    return cut(*batch, PART)


def undivided(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Add the mean losses up."""
    for batch in batches:
        loss_of(model, batch).backward()


def by_count(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Divide each mean loss by the number of micro-batches: the usual way."""
    for batch in batches:
        (loss_of(model, batch) / len(batches)).backward()


class _GradientKeeper(torch.optim.Optimizer):
    """Steps by keeping the gradients that it was given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {})
        self.kept: list[Tensor] = []

    def step(self, closure: object = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keep them."""
        del closure
        self.kept = [gradient_of(p).clone() for group in self.param_groups for p in group["params"]]


def exact(model: nn.Module, batches: Sequence[Batch]) -> None:
    """`seismograd.accumulate`, each micro-batch weighted by its number of labels."""
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
    """The most bytes that autograd keeps at once for a backward, the weights themselves not
    counted.
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


def describe(found: AccumulationResult) -> Page:
    """Put it into words."""
    ways: list[tuple[Message, AccumulationError]] = [
        (say("4 × 32, each loss / 4"), found.equal),
        (say("4 × 32, not divided"), found.undivided),
        (say("100 samples: 32, 32, 32, 4, each loss / 4"), found.short_by_count),
        (say("the same, weighted by samples"), found.short_exact),
        (
            say("{labels} labels, each loss / 4", labels=", ".join(map(str, LABELLED))),
            found.uneven_by_count,
        ),
        (say("the same, weighted by labels"), found.uneven_exact),
    ]
    return Page(
        say("Accumulation: four small batches instead of a large one"),
        (
            Paragraph(
                say(
                    "backward() adds to .grad, so the gradients of 4 micro-batches of 32 become "
                    "that of one batch of 128, if their sum"
                    " is weighted as the one mean is. Each row compares a way of doing it with "
                    "the gradient of the whole batch.",
                )
            ),
            PageTable(
                (say("way"), say("relative error"), say("norm / right norm"), say("cosine")),
                [
                    (name, f"{each.error:.1e}", f"{each.ratio:.4f}", f"{each.cosine:.6f}")
                    for name, each in ways
                ],
            ),
            Chart(
                say("How far from the gradient of the whole batch"),
                say("norm of the difference / norm, on a logarithmic axis"),
                (
                    ChartSeries(
                        say("relative error"), range(len(ways)), [each.error for _, each in ways]
                    ),
                ),
                "bars",
                log=True,
                labels=[name for name, _ in ways],
            ),
            Paragraph(
                say(
                    "Divided by 4 it is equal to rounding ({equal:.0e}). Not divided it is "
                    "{undivided:.4f} times as large: with SGD as"
                    " if the learning rate were. A short last micro-batch of 4 samples that "
                    "counts as much as one of 32 makes the"
                    " gradient {short:.0%} wrong, and uneven numbers of labels or tokens "
                    "{uneven:.0%}: the mean of means is not the"
                    " mean. Weighted by what each loss is a mean over, both are right again "
                    "({short_exact:.0e}, {uneven_exact:.0e}).",
                    equal=found.equal.error,
                    undivided=found.undivided.ratio,
                    short=found.short_by_count.error,
                    uneven=found.uneven_by_count.error,
                    short_exact=found.short_exact.error,
                    uneven_exact=found.uneven_exact.error,
                )
            ),
            Paragraph(
                say(
                    "What it is for: from forward to backward autograd keeps {whole:,} bytes "
                    "besides the weights for the batch of 128,"
                    " and at most {parts:,} for one of 32: {share} of it.",
                    whole=found.held_whole,
                    parts=found.held_parts,
                    share=number(found.held_parts / found.held_whole, 3),
                )
            ),
        ),
        (
            (
                say("In your own loop, exact for all of these cases:"),
                "for window in seismograd.accumulate(loader, 4, model=model, "
                "optimizer=optimizer):\n"
                "    for inputs, targets in window:\n"
                "        window.backward(criterion(model(inputs), targets), "
                "weight=targets.numel())\n"
                "    window.step(max_norm=1.0)",
            ),
            (
                say(
                    "Why gradients are added up at all, and what happens when they are not cleared:"
                ),
                "seismograd lab zero-grad",
            ),
        ),
    )
