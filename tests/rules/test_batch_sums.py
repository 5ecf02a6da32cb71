"""SG801 on a sum over the whole batch that is added to the loss of each sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.capture.graph.batch_sums import batch_sums  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from tests.rules.graph_faults import training  # noqa: E402
from tests.rules.programs import batch, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


def flow(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The log-determinant of a coupling layer, summed over the batch as well."""
    scale = model(x)
    there = x[:, : scale.shape[1]] * scale.exp()
    return -(-0.5 * there.square().sum(1) + scale.sum()).mean()


def several_layers(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    total: Tensor | float = 0.0
    for part in out.unbind(1):
        total = total + part.tanh().sum()
    return (out.square().sum(1) - total).mean()


def divergence(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    mean, logvar = model(x).chunk(2, 1)
    each = (mean + torch.randn_like(mean) * logvar.exp() - 1).square().sum(1)
    return (each - 0.5 * torch.sum(1 + logvar - mean.square() - logvar.exp())).mean()


def entropy(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    bonus = (out.softmax(1) * out.log_softmax(1)).sum()
    return torch.mean(F.cross_entropy(out, labels, reduction="none") + bonus)


FAULTY = (flow, several_layers, divergence, entropy)


def of_each_sample(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    scale = model(x)
    there = x[:, : scale.shape[1]] * scale.exp()
    return -(-0.5 * there.square().sum(1) + scale.sum(1)).mean()


def averaged(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    return (F.cross_entropy(out, labels, reduction="none") + out.square().mean()).mean()


def small_on_purpose(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    return (F.cross_entropy(out, labels, reduction="none") + 1e-3 * out.abs().sum()).mean()


def leave_one_out(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Each sample against the mean of the others."""
    each = F.cross_entropy(model(x), labels, reduction="none")
    others = (each.sum() - each) / (len(x) - 1)
    return (each - others).square().mean() + each.mean()


def of_weights(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A penalty on a matrix with as many rows as the batch has samples."""
    weight = next(model.parameters())
    rows = len(weight)
    product = weight @ weight.T - torch.eye(rows)
    each = F.cross_entropy(model(x[:1].expand(rows, -1)), labels[:1].expand(rows), reduction="none")
    return (each + product.square().sum()).mean()


def after_the_mean(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    out = model(x)
    return out.square().sum() + out.abs().sum()


HEALTHY = (of_each_sample, averaged, small_on_purpose, leave_one_out, of_weights, after_the_mean)


def found(loss: LossOf) -> list[tuple[int, int]]:
    graph = LossGraph([loss(mlp(3, nn.Tanh), *batch(0)).grad_fn])
    return [(each.rows, each.columns) for each in batch_sums(graph)]


@pytest.mark.parametrize("loss", FAULTY)
def test_a_sum_over_the_batch_is_found(loss: LossOf) -> None:
    ((rows, columns),) = found(loss)
    assert rows == len(batch(0)[0])
    assert columns % rows == 0


@pytest.mark.parametrize("loss", HEALTHY)
def test_other_sums_are_left_alone(loss: LossOf) -> None:
    assert found(loss) == []


@pytest.mark.parametrize("loss", [flow, entropy])
def test_it_is_told_how_much_the_term_counts(loss: LossOf, tmp_path: Path) -> None:
    (finding,) = judged(training(loss), tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG801", "error", 0)
    assert f"this term counts {len(batch(0)[0])} times as much" in finding.cause.render()
    assert finding.excerpt.endswith("# one number for each sample")


@pytest.mark.parametrize("loss", [of_each_sample, averaged, leave_one_out])
def test_a_training_with_other_sums_is_healthy(loss: LossOf, tmp_path: Path) -> None:
    assert judged(training(loss), tmp_path / "run") == ()


SCRIPT = """
import torch
from torch import nn


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(3, 3)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        s = self.scale(a).tanh()
        return torch.cat([a, b * s.exp()], 1), torch.sum(s)


flow = Flow()
optimizer = torch.optim.SGD(flow.parameters(), lr=0.01)
for _ in range(6):
    z, logdet = flow(torch.randn(16, 6))
    optimizer.zero_grad()
    (0.5 * z.pow(2).sum(1) - logdet).mean().backward()
    optimizer.step()
"""


def test_the_line_that_sums_is_shown_as_it_should_read(tmp_path: Path) -> None:
    import seismograd

    file = tmp_path / "flow.py"
    file.write_text(SCRIPT)
    with seismograd.watch(out=tmp_path / "run") as recording:
        exec(compile(SCRIPT, str(file), "exec"), {"__name__": "flow"})
    (finding,) = (each for each in recording.findings if each.code == "SG801")
    assert finding.where.endswith("flow.py:14")
    assert "s.flatten(1).sum(1)" in finding.excerpt
