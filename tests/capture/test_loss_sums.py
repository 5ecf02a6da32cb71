"""Which terms a loss is the sum of, as the graph shows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seismograd.capture.graph.loss_sums import addends

LABELS = torch.tensor([0, 2, 1, 1, 0, 2])


def logits() -> Tensor:
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3)(torch.randn(6, 4))


def smooth(given: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(given, LABELS, label_smoothing=0.1, reduction=reduction)


@pytest.mark.parametrize(
    ("loss", "num"),
    [
        (lambda x: F.cross_entropy(x, LABELS), 1),
        (smooth, 1),
        (lambda x: smooth(x, "sum") / 6, 1),
        (lambda x: smooth(x, "none").mean(), 1),
        (lambda x: smooth(x.T[None].expand(1, 3, 6)[0].T) * 2, 1),
        (lambda x: smooth(x) + x.square().mean(), 2),
        (lambda x: smooth(x) + 0.5 * smooth(2 * x), 2),
        # written by hand
        (lambda x: 0.9 * F.nll_loss(y := x.log_softmax(1), LABELS) - 0.1 * y.mean(1).mean(), 1),
        # of other logarithms: two losses
        (lambda x: F.cross_entropy(x, LABELS) - 0.1 * (2 * x).log_softmax(1).mean(), 2),
        # an entropy is none
        (lambda x: F.cross_entropy(x, LABELS) + (x.softmax(1) * x.log_softmax(1)).sum(1).mean(), 2),
    ],
)
def test_the_smoothing_of_labels_is_no_loss_of_its_own(
    loss: Callable[[Tensor], Tensor], num: int
) -> None:
    assert len(addends(loss(logits()).grad_fn)) == num
