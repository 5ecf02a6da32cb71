"""SG801 on focal losses whose weight is computed from the mean over a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.reduced_focal_losses import reduced_focal_losses  # noqa: E402
from tests.rules.graph_faults import training  # noqa: E402
from tests.rules.programs import NUM_CLASSES, batch, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


def binary(labels: Tensor) -> Tensor:
    return F.one_hot(labels, NUM_CLASSES).float()


def of_a_mean(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    ce = F.cross_entropy(model(x), labels)
    return (1 - torch.exp(-ce)) ** 2 * ce


def of_labels(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    bce = F.binary_cross_entropy_with_logits(model(x), binary(labels))
    pt = torch.exp(-bce)
    return (0.25 * (1 - pt) ** 1.5 * bce).mean()


def of_probabilities(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the probability, and weights for each sample."""
    logpt = -nn.CrossEntropyLoss()(model(x), labels)
    pt = logpt.exp()
    alpha = torch.rand(len(x))
    return -(alpha * (1 - pt).pow(2.0) * logpt).sum()


def smoothed(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)(model(x), labels)
    return torch.pow(-torch.expm1(-loss), 2) * loss


def by_hand(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    ce = -model(x).log_softmax(1).gather(1, labels[:, None]).mean()
    return ce * torch.sub(1, torch.exp(-ce)).square()


FAULTY: dict[LossOf, tuple[str, int]] = {
    of_a_mean: ("cross_entropy", 32),
    of_labels: ("bce_with_logits", 32 * NUM_CLASSES),
    of_probabilities: ("cross_entropy", 32),
    smoothed: ("cross_entropy", 32),
    by_hand: ("mean", 32),
}


def of_each(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    ce = F.cross_entropy(model(x), labels, reduction="none")
    return ((1 - torch.exp(-ce)) ** 2 * ce).mean()


def one_by_one(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    total = torch.zeros(())
    for each, label in zip(model(x), labels, strict=True):
        ce = F.cross_entropy(each, label)
        total = total + (1 - torch.exp(-ce)) ** 2 * ce
    return total / len(x)


def one_by_one_in_a_batch(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    total = torch.zeros(())
    for i in range(4):
        ce = nn.CrossEntropyLoss()(model(x[i : i + 1]), labels[i : i + 1])
        total = total + (1 - torch.exp(-ce)) ** 2 * ce
    return total


def of_unbound(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    losses = F.cross_entropy(model(x), labels, reduction="none")
    picked = torch.stack([(1 - torch.exp(-each)) ** 2 * each for each in losses.unbind()])
    return picked.mean() + (1 - torch.exp(-losses[0])) ** 2 * losses[0]


def one_at_a_time_by_hand(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    ce = -(F.one_hot(labels[0], NUM_CLASSES) * model(x)[0].log_softmax(0)).sum()
    return (1 - torch.exp(-ce)) ** 2 * ce


def other_weight(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A weight from another loss, as of two tasks."""
    out = model(x)
    ce, size = F.cross_entropy(out, labels), out.square().mean()
    return (1 - torch.exp(-size)) ** 2 * ce


def kernel(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A robust loss: one minus an exponential, multiplied by nothing."""
    return 1 - torch.exp(-F.cross_entropy(model(x), labels))


HEALTHY = (
    of_each,
    one_by_one,
    one_by_one_in_a_batch,
    of_unbound,
    one_at_a_time_by_hand,
    other_weight,
    kernel,
)


def found(loss: LossOf) -> list[tuple[str, int]]:
    graph = LossGraph([loss(mlp(3, nn.Tanh), *batch(0)).grad_fn])
    return [(each.loss, each.rows) for each in reduced_focal_losses(graph)]


@pytest.mark.parametrize("loss", FAULTY)
def test_a_weight_from_a_mean_is_found(loss: LossOf) -> None:
    assert found(loss) == [FAULTY[loss]]


@pytest.mark.parametrize("loss", HEALTHY)
def test_other_weights_are_left_alone(loss: LossOf) -> None:
    assert found(loss) == []


@pytest.mark.parametrize("loss", [of_labels, by_hand])
def test_it_is_told_that_the_weight_is_one_for_all(loss: LossOf, tmp_path: Path) -> None:
    (finding,) = judged(training(loss), tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG801", "error", 0)
    assert "one number for the whole batch" in finding.cause.render()
    assert "reduction" in finding.excerpt


SCRIPT = """
import torch
import torch.nn.functional as F
from torch import nn


def focal_loss(logits, target, gamma=2):
    ce = F.cross_entropy(logits, target, weight=None, reduction="mean")
    return (1 - torch.exp(-ce)) ** gamma * ce


model = nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(6):
    optimizer.zero_grad()
    focal_loss(model(torch.randn(16, 4)), torch.randint(3, (16,))).backward()
    optimizer.step()
"""


def test_the_call_is_shown_as_it_should_read(tmp_path: Path) -> None:
    import seismograd

    file = tmp_path / "focal.py"
    file.write_text(SCRIPT)
    with seismograd.watch(out=tmp_path / "run") as recording:
        exec(compile(SCRIPT, str(file), "exec"), {"__name__": "focal"})
    (finding,) = (each for each in recording.findings if each.code == "SG801")
    assert finding.where.endswith("focal.py:8")
    assert finding.excerpt == "ce = F.cross_entropy(logits, target, weight=None, reduction='none')"
