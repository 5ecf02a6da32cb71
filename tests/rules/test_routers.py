"""SG803 on routers of experts: some are trained by nothing but what balances the experts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.router_cuts import cut_routers  # noqa: E402
from seismograd.capture.source.routing import routing  # noqa: E402
from tests.rules.graph_faults import training  # noqa: E402
from tests.rules.programs import NUM_CLASSES, WIDTH, batch  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

NUM_EXPERTS = 5
LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(WIDTH, WIDTH)
        self.router = nn.Linear(WIDTH, NUM_EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, NUM_CLASSES) for _ in range(NUM_EXPERTS))

    def outputs(self, x: Tensor) -> Tensor:
        return torch.stack([expert(x) for expert in self.experts], 1)


def balance(probs: Tensor, mask: Tensor) -> Tensor:
    return NUM_EXPERTS * (mask.mean(0) * probs.mean(0)).sum()


def equal_weights(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    """The two most likely experts, each by a half."""
    h = model.body(x).tanh()
    probs = model.router(h).softmax(-1)
    _, chosen = probs.topk(2, dim=-1)
    mask = F.one_hot(chosen, NUM_EXPERTS).sum(1).float() / 2
    out = (mask.unsqueeze(-1) * model.outputs(h)).sum(1)
    return F.cross_entropy(out, labels) + 0.01 * balance(probs, mask)


def the_best_one(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    """As a switch, without its probability; logits with a temperature and noise."""
    logits = (model.router(x) + 0.1 * torch.randn(len(x), NUM_EXPERTS)) / 0.7
    probs = F.softmax(logits, dim=1)
    chosen = probs.argmax(1)
    out = model.outputs(x)[torch.arange(len(x)), chosen]
    share = probs.sum(0) / len(x)
    return F.cross_entropy(out, labels) + 0.1 * (share - 1 / NUM_EXPERTS).square().sum()


def small_logits(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    """What keeps the logits small tells no sample from another."""
    logits = model.router(x)
    probs = logits.softmax(-1)
    mask = F.one_hot(probs.argmax(-1), NUM_EXPERTS).float()
    out = (mask.unsqueeze(-1) * model.outputs(x)).sum(1)
    small = logits.logsumexp(-1).square().mean()
    return F.cross_entropy(out, labels) + 0.01 * balance(probs, mask) + 0.001 * small


FAULTY = (equal_weights, the_best_one, small_logits)


def weighted(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    probs = model.router(x).softmax(-1)
    top, chosen = probs.topk(2, dim=-1)
    weights = torch.zeros_like(probs).scatter(1, chosen, top / top.sum(-1, keepdim=True))
    out = (weights.unsqueeze(-1) * model.outputs(x)).sum(1)
    return F.cross_entropy(out, labels) + 0.01 * balance(probs, (weights > 0).float())


def softmax_of_the_best(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    logits = model.router(x)
    top, chosen = logits.topk(2, dim=-1)
    mask = F.one_hot(chosen, NUM_EXPERTS).sum(1).float()
    weights = torch.zeros_like(logits).scatter(1, chosen, top.softmax(-1))
    out = (weights.unsqueeze(-1) * model.outputs(x)).sum(1)
    return F.cross_entropy(out, labels) + 0.01 * balance(logits.softmax(-1), mask)


def switch(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    probs = model.router(x).softmax(-1)
    best, chosen = probs.max(-1)
    out = best.unsqueeze(-1) * model.outputs(x)[torch.arange(len(x)), chosen]
    mask = F.one_hot(chosen, NUM_EXPERTS).float()
    return F.cross_entropy(out, labels) + 0.01 * balance(probs, mask)


def one_mixture_for_all(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    """Means of the probabilities weigh the experts themselves."""
    weights = model.router(x).softmax(-1).mean(0)
    out = (weights[:, None] * model.outputs(x)).sum(1)
    return F.cross_entropy(out, labels)


def diverse_predictions(model: Experts, x: Tensor, labels: Tensor) -> Tensor:
    """Means of a classifier's own probabilities, besides its loss."""
    out = model.experts[0](model.body(x).tanh())
    mean = out.softmax(-1).mean(0)
    return F.cross_entropy(out, labels) + 0.1 * (mean * mean.log()).sum()


HEALTHY = (weighted, softmax_of_the_best, switch, one_mixture_for_all, diverse_predictions)


@pytest.mark.parametrize("loss", FAULTY)
def test_a_router_whose_choice_trains_nothing_is_found(loss: LossOf) -> None:
    assert len(cut_routers(LossGraph([loss(Experts(), *batch(0)).grad_fn]))) == 1


@pytest.mark.parametrize("loss", HEALTHY)
def test_routers_that_learn_are_left_alone(loss: LossOf) -> None:
    assert cut_routers(LossGraph([loss(Experts(), *batch(0)).grad_fn])) == []


@pytest.mark.parametrize("loss", [equal_weights, the_best_one])
def test_it_is_told_with_its_parameters(loss: LossOf, tmp_path: Path) -> None:
    found = judged(training(loss, Experts, steps=12), tmp_path / "run")
    (finding,) = (each for each in found if each.code == "SG803")
    assert (finding.severity, finding.first_step) == ("error", 2)
    assert finding.parameters == ("router.weight", "router.bias")
    assert "only by their mean over the batch" in finding.cause.render()


@pytest.mark.parametrize("loss", [weighted, switch])
def test_a_training_of_routers_that_learn_is_healthy(loss: LossOf, tmp_path: Path) -> None:
    found = judged(training(loss, Experts, steps=12), tmp_path / "run")
    assert "SG803" not in {each.code for each in found}


def test_the_statement_that_chooses(tmp_path: Path) -> None:
    file = tmp_path / "routed.py"
    file.write_text("def forward(p):\n    top, index = p.topk(2)\n    best = p.argmax(1)\n")
    found = routing(str(file))
    assert found is not None
    assert found.line == 2
    file = tmp_path / "twice.py"
    file.write_text("a = p.argmax(1)\nb = p.argmax(0)\n")
    assert routing(str(file)) is None
