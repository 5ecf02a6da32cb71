"""SG801 on contrastive losses whose similarities are multiplied by the temperature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.capture.graph.loss_inputs import faults_of  # noqa: E402
from tests.rules.graph_faults import training  # noqa: E402
from tests.rules.programs import batch, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]
TEMPERATURE = 0.2


def two_views(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    noise = 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return F.normalize(model(x), dim=1), F.normalize(model(x + noise), dim=1)


def of_all_pairs(scale: float) -> LossOf:
    """SimCLR: each view against all others but itself."""

    def loss(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        num, both = len(x), torch.cat(two_views(model, x))
        logits = (both @ both.t() * scale).masked_fill(torch.eye(2 * num, dtype=torch.bool), -1e9)
        return F.cross_entropy(logits, torch.cat([torch.arange(num) + num, torch.arange(num)]))

    return loss


def of_two_views(scale: float) -> LossOf:
    def loss(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        one, other = two_views(model, x)
        return nn.CrossEntropyLoss()(torch.mm(one, other.T) * scale, torch.arange(len(x)))

    return loss


def with_a_bonus(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """What is added may tell samples apart."""
    one, other = two_views(model, x)
    logits = one @ other.T * TEMPERATURE + 5 * torch.eye(len(x))
    return F.cross_entropy(logits, torch.arange(len(x)))


def not_normalised(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    return F.cross_entropy(out @ out.T * TEMPERATURE, torch.arange(len(x)))


def relations(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The similarities of a teacher, at a high temperature."""
    one, other = two_views(model, x)
    wanted = (x @ x.T / 16).softmax(1)
    return F.kl_div((one @ other.T * TEMPERATURE).log_softmax(1), wanted, reduction="batchmean")


FAULTY = (of_all_pairs(TEMPERATURE), of_two_views(TEMPERATURE))
HEALTHY = (
    of_all_pairs(1 / TEMPERATURE),
    of_two_views(1 / TEMPERATURE),
    of_two_views(1.0),
    with_a_bonus,
    not_normalised,
    relations,
)


def found(loss: LossOf) -> list[tuple[float, float, float]]:
    value = loss(mlp(3, nn.Tanh), *batch(0))
    faults = [each for each in faults_of([value.grad_fn]) if each.input == "similarity"]
    return [(each.low, each.high, value.item()) for each in faults]


@pytest.mark.parametrize("loss", FAULTY)
def test_a_product_with_the_temperature_is_found(loss: LossOf) -> None:
    ((scale, lowest, value),) = found(loss)
    assert scale == pytest.approx(TEMPERATURE)
    assert 0.85 * value < lowest < value


@pytest.mark.parametrize("loss", HEALTHY)
def test_other_similarities_are_left_alone(loss: LossOf) -> None:
    assert found(loss) == []


def test_it_is_told_how_far_the_loss_can_fall(tmp_path: Path) -> None:
    (finding,) = judged(training(FAULTY[0]), tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG801", "error")
    assert "multiplied by 0.2" in finding.cause.render()
    assert finding.excerpt == "logits = similarity / 0.2"
