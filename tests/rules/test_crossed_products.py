"""SG801 on numbers of samples that are multiplied by constants for all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.capture.graph.crossed_products import crossed_products  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from tests.rules.graph_faults import training  # noqa: E402
from tests.rules.programs import batch, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


def chosen(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=model(x)).log_prob(labels)


def advantages(x: Tensor) -> Tensor:
    return (x[:, 0] - x[:, 0].mean()) / x[:, 0].std()


def policy_gradient(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return -(chosen(model, x, labels) * advantages(x).unsqueeze(1)).mean() + 0.1


def clipped(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Proximal policy optimization, the ratio as a column."""
    log_prob = chosen(model, x, labels).unsqueeze(-1)
    ratio = (log_prob - log_prob.detach() + 0.01).exp()
    adv = advantages(x)
    return -torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()


def weighted(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    each = F.cross_entropy(model(x), labels, reduction="none")
    return (torch.rand(len(x), 1) * each).sum() / len(x)


def divided(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    lengths = torch.arange(1.0, len(x) + 1)[:, None]
    return torch.mean(F.cross_entropy(model(x), labels, reduction="none") / lengths)


def masked(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    keep = x[:, 1] > 0
    return -(chosen(model, x, labels) * advantages(x).unsqueeze(1) * keep).sum() / keep.sum()


FAULTY = (policy_gradient, clipped, weighted, divided, masked)


def of_one_shape(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return -(chosen(model, x, labels) * advantages(x)).mean()


def columns(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return -(chosen(model, x, labels)[:, None] * advantages(x)[:, None]).mean()


def pairs(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Both sides are trained."""
    out = model(x)
    return (out[:, :1] * out[:, 1]).mean()


def pairs_with_constants(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Rows and columns, as a script that means pairs writes them."""
    return (model(x)[:, :1] * x[:, :1].T).mean()


def of_pairs_later(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Fourier features with as many frequencies as samples."""
    return (model(x)[:, :1] * torch.arange(1.0, len(x) + 1)).sin().mean()


def chosen_pairs(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    same = (labels[:, None] == labels).float()
    return (model(x)[:, 0] * advantages(x)[:, None] * same).sum() / same.sum()


def one_weight(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """It does not matter which of equal weights is used."""
    each = F.cross_entropy(model(x), labels, reduction="none")
    return (each * torch.ones(len(x), 1)).mean()


def other_sizes(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A sum over several weights for each sample."""
    each = F.cross_entropy(model(x), labels, reduction="none")
    return (each * torch.rand(3, 1)).mean()


HEALTHY = (
    of_one_shape,
    columns,
    pairs,
    pairs_with_constants,
    of_pairs_later,
    chosen_pairs,
    one_weight,
    other_sizes,
)


def found(loss: LossOf) -> list[tuple[int, int]]:
    graph = LossGraph([loss(mlp(3, nn.Tanh), *batch(0)).grad_fn])
    return [(each.rows, each.columns) for each in crossed_products(graph)]


@pytest.mark.parametrize("loss", FAULTY)
def test_a_product_with_the_constants_of_all_samples_is_found(loss: LossOf) -> None:
    num = len(batch(0)[0])
    assert found(loss) == [(num, num)]


@pytest.mark.parametrize("loss", HEALTHY)
def test_other_products_are_left_alone(loss: LossOf) -> None:
    assert found(loss) == []


@pytest.mark.parametrize("loss", [policy_gradient, clipped])
def test_the_shapes_are_told(loss: LossOf, tmp_path: Path) -> None:
    (finding,) = judged(training(loss), tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG801", "error", 0)
    cause, num = finding.cause.render(), len(batch(0)[0])
    given, constants = (f"[{num}]", f"[{num}, 1]")
    if loss is clipped:
        given, constants = constants, given
    assert f"of shape {given} are multiplied by constants of shape {constants}" in cause
    assert "squeeze(-1)" in finding.excerpt


SCRIPT = """
import torch
from torch import nn

policy = nn.Linear(4, 2)
optimizer = torch.optim.SGD(policy.parameters(), lr=0.01)
for _ in range(6):
    dist = torch.distributions.Categorical(logits=policy(torch.randn(16, 4)))
    log_prob = dist.log_prob(dist.sample())
    advantage = torch.randn(16, 1)
    policy_loss = -(log_prob * advantage).mean()
    loss = policy_loss - 0.01 * dist.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_the_line_of_the_product_is_shown(tmp_path: Path) -> None:
    import seismograd

    file = tmp_path / "policy.py"
    file.write_text(SCRIPT)
    with seismograd.watch(out=tmp_path / "run") as recording:
        exec(compile(SCRIPT, str(file), "exec"), {"__name__": "policy"})
    (finding,) = (each for each in recording.findings if each.code == "SG801")
    assert finding.where.endswith("policy.py:11")
