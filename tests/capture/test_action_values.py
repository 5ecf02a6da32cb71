"""Which losses are regressions of action values, as the graph shows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seismograd.capture.graph.action_values import regresses_action_values
from seismograd.capture.graph.loss_graph import LossGraph

NUM = 6
ACTIONS = torch.tensor([0, 2, 1, 1, 0, 2])
TARGETS = torch.linspace(-1, 1, NUM)


def values() -> Tensor:
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3)(torch.randn(NUM, 4))


def is_found(loss: Tensor) -> bool:
    return regresses_action_values(LossGraph([loss.grad_fn]))


CHOICES: list[Callable[[Tensor], Tensor]] = [
    lambda q: q.gather(1, ACTIONS[:, None]).squeeze(1),
    lambda q: q.gather(-1, ACTIONS[:, None])[:, 0],
    lambda q: q.gather(1, ACTIONS.unsqueeze(1)).view(-1),
    lambda q: torch.take_along_dim(q, ACTIONS[:, None], 1).squeeze(),
    lambda q: q[torch.arange(NUM), ACTIONS],
    lambda q: q[range(NUM), ACTIONS],
    lambda q: (q * F.one_hot(ACTIONS, 3)).sum(1),
    lambda q: (F.one_hot(ACTIONS, 3).float() * q).sum(-1),
]
COMPARISONS: list[Callable[[Tensor], Tensor]] = [
    lambda chosen: F.mse_loss(chosen, TARGETS),
    lambda chosen: F.smooth_l1_loss(TARGETS, chosen),
    lambda chosen: F.huber_loss(chosen, TARGETS, reduction="none").mean(),
    lambda chosen: (TARGETS - chosen).pow(2).mean(),
    lambda chosen: ((chosen - TARGETS) ** 2 * torch.rand(NUM)).mean() / 4,
    lambda chosen: (chosen - TARGETS).abs().mean() + chosen.square().mean() * 1e-3,
]


@pytest.mark.parametrize("choose", CHOICES)
@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_regression_of_chosen_outputs_is_one(
    choose: Callable[[Tensor], Tensor], compare: Callable[[Tensor], Tensor]
) -> None:
    assert is_found(compare(choose(values())))


@pytest.mark.parametrize(
    "loss",
    [
        lambda q: F.cross_entropy(q, ACTIONS),
        lambda q: -q.log_softmax(1).gather(1, ACTIONS[:, None]).mean(),
        lambda q: F.mse_loss(q[:, 0], TARGETS),
        lambda q: F.mse_loss(q[ACTIONS > 0, 0], TARGETS[ACTIONS > 0]),
        lambda q: F.mse_loss((q * torch.rand(NUM, 3)).sum(1), TARGETS),
        lambda q: F.mse_loss(q.sum(1), TARGETS),
        lambda q: F.mse_loss(q.gather(1, torch.stack([ACTIONS, ACTIONS], 1)), torch.rand(NUM, 2)),
    ],
)
def test_others_are_none(loss: Callable[[Tensor], Tensor]) -> None:
    assert not is_found(loss(values()))
