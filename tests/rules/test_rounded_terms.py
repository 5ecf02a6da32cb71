"""SG802 on terms of a loss that a rounding keeps from training, beside terms that train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.mended_rounding import without_rounding  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.rounded_terms import rounded_terms  # noqa: E402
from tests.rules.graph_faults import training  # noqa: E402
from tests.rules.programs import batch, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


def crowd(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """How many are let in should be half of all: a budget on hard decisions."""
    logits = model(x)
    admitted = logits.sigmoid().round()
    return F.cross_entropy(logits, labels) + 0.5 * (admitted.mean() - 0.5) ** 2


def bit_rate(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The rate is a plain sum of what is rounded, and is added as it is."""
    codes = model(x)
    return F.cross_entropy(codes, labels) + 0.01 * torch.floor(codes.abs() * 8).sum()


def wrong_order(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Per sample: pairs in the wrong order, by the sign of the difference."""
    score = model(x)
    wrong = (1 - torch.sign(score[:, 0] - score[:, 1])) / 2
    each = F.cross_entropy(score, labels, reduction="none") + 0.3 * wrong.clamp(min=0.1)
    return each.mean()


def whole_cents(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    price = model(x)
    off = torch.div(price, 0.05, rounding_mode="floor")
    return F.huber_loss(off[:, 0], labels.float()) + 0.1 * F.cross_entropy(price, labels)


def not_detached(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A straight-through estimator that lets nothing through, in one of two terms."""
    out = model(x)
    hard = out + (out.round() - out)
    return F.mse_loss(hard[:, 0], labels.float()) + F.cross_entropy(out, labels)


FAULTY = {
    crowd: "round",
    bit_rate: "floor",
    wrong_order: "sign",
    whole_cents: "floor",
    not_detached: "round",
}


def phase(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """What is left of a turn: the whole turns are constant, the rest is not."""
    turns = model(x)
    return (turns / 2 - torch.floor(turns / 2)).mean() + F.cross_entropy(turns, labels)


def straight_through(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    hard = out + (out.round() - out).detach()
    return F.mse_loss(hard[:, 0], labels.float()) + F.cross_entropy(out, labels)


def size_by_sign(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    return (out * out.sign()).mean() + F.cross_entropy(out, labels)


def near_the_grid(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Pulls weights to whole numbers, as before a quantization."""
    pull = sum(((w - w.round()) ** 2).mean() for w in model.parameters())
    return F.cross_entropy(model(x), labels) + 0.1 * pull


def rounded_targets(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    return F.mse_loss(out, out.detach().round()) + F.cross_entropy(out, labels)


def discrete_code(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """What comes after the code gets its gradient."""
    code = model[:2](x)
    out = model[2:](code.round())
    return F.cross_entropy(out, labels) + 0.2 * code.pow(2).mean()


HEALTHY = (
    phase,
    straight_through,
    size_by_sign,
    near_the_grid,
    rounded_targets,
    discrete_code,
)


def operations(loss: LossOf) -> list[str]:
    model = mlp(3, nn.Tanh)
    return [each.operation for each in rounded_terms(LossGraph([loss(model, *batch(0)).grad_fn]))]


@pytest.mark.parametrize(("loss", "operation"), FAULTY.items())
def test_a_term_that_trains_nothing_is_found(loss: LossOf, operation: str) -> None:
    assert operations(loss) == [operation]


@pytest.mark.parametrize("loss", HEALTHY)
def test_terms_of_which_something_trains_are_left_alone(loss: LossOf) -> None:
    assert operations(loss) == []


def test_what_only_a_rounding_leads_to_is_another_matter() -> None:
    """All of its gradients are zero, which is SG109's."""
    model, gate = mlp(2, nn.Tanh), nn.Linear(16, 1)
    x, labels = batch(0)
    loss = F.cross_entropy(model(x), labels) + gate(x).sigmoid().round().mean().square()
    assert rounded_terms(LossGraph([loss.grad_fn])) == []


@pytest.mark.parametrize("loss", [crowd, wrong_order])
def test_it_is_told_with_the_statement(loss: LossOf, tmp_path: Path) -> None:
    (finding,) = judged(training(loss), tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG802", "warning", 0)
    assert finding.last_step == 15
    assert len(finding.parameters) == 6
    assert f"through {FAULTY[loss]}, whose derivative is zero" in finding.cause.render()


@pytest.mark.parametrize("loss", [phase, straight_through, near_the_grid])
def test_a_training_with_such_terms_is_healthy(loss: LossOf, tmp_path: Path) -> None:
    assert judged(training(loss), tmp_path / "run") == ()


SCRIPT = """
import torch
from torch import nn


class Budget(nn.Module):
    def forward(self, gates, scores, wanted):
        open_ = torch.round(gates.sigmoid())
        return scores.square().mean() + (open_.mean() - wanted).abs()


net, budget = nn.Linear(6, 8), Budget()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(6):
    out = net(torch.randn(16, 6))
    optimizer.zero_grad()
    budget(out, out, 0.25).backward()
    optimizer.step()
"""


def test_the_line_that_rounds_is_shown_without_it(tmp_path: Path) -> None:
    import seismograd

    file = tmp_path / "gates.py"
    file.write_text(SCRIPT)
    with seismograd.watch(out=tmp_path / "run") as recording:
        exec(compile(SCRIPT, str(file), "exec"), {"__name__": "gates"})
    (finding,) = (each for each in recording.findings if each.code == "SG802")
    assert finding.where.endswith("gates.py:8")
    assert finding.excerpt == "open_ = gates.sigmoid()"


@pytest.mark.parametrize(
    ("text", "operation", "mended"),
    [
        ("y = torch.floor(x * 4) / 4", "floor", "y = x * 4 / 4"),
        ("y = (x > 0) * x.sign()", "sign", "y = (x > 0) * x"),
        ("y = torch.round(x.sigmoid(), decimals=2)", "round", "y = x.sigmoid()"),
        ("y = x.ceil()", "round", ""),
        ("y = torch.round()", "round", ""),
        ("y = (", "round", ""),
    ],
)
def test_a_statement_is_shown_without_the_rounding(text: str, operation: str, mended: str) -> None:
    assert without_rounding(text, operation) == mended
