"""Losses that multiply log-probabilities by returns or advantages, whose value says nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.distributions import Categorical, Normal  # noqa: E402

from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.policy_gradients import is_policy_loss  # noqa: E402

NUM, ACTIONS = 12, 3
Loss = Callable[[Tensor, Tensor], Tensor]

GENERATOR = torch.Generator().manual_seed(0)
RETURNS = torch.arange(NUM, 0, -1).float()  # of an episode, with a reward of one for each step
ADVANTAGES = torch.randn(NUM, generator=GENERATOR)
CLASS_WEIGHTS = torch.tensor([1.0, 5.0, 9.0])
MASK = (torch.rand(NUM, generator=GENERATOR) < 0.5).float()
SAMPLE_WEIGHTS = torch.rand(NUM, generator=GENERATOR) + 0.5


def drawn(logits: Tensor, actions: Tensor) -> Tensor:
    return Categorical(logits=logits).log_prob(actions)


def picked(logits: Tensor, actions: Tensor) -> Tensor:
    return F.log_softmax(logits, 1).gather(1, actions[:, None]).squeeze(1)


def each(logits: Tensor, actions: Tensor) -> Tensor:
    return F.cross_entropy(logits, actions, reduction="none")


def one_by_one(logits: Tensor, actions: Tensor) -> Tensor:
    """As an episode is collected, step by step."""
    policies = [Categorical(F.softmax(row, dim=-1)) for row in logits[:, None]]
    found = [
        -policy.log_prob(action) * back
        for policy, action, back in zip(policies, actions, RETURNS, strict=True)
    ]
    return torch.cat(found).sum()


def added_up(logits: Tensor, actions: Tensor) -> Tensor:
    loss = torch.zeros(())
    for row, action, back in zip(logits, actions, RETURNS.tolist(), strict=True):
        loss = loss - Categorical(logits=row).log_prob(action) * back
    return loss / NUM


def surrogate(logits: Tensor, actions: Tensor) -> Tensor:
    ratio = (drawn(logits, actions) + 1.1).exp()
    gain = torch.min(ratio * ADVANTAGES, ratio.clamp(0.8, 1.2) * ADVANTAGES).mean()
    values = (logits.sum(1) - RETURNS).pow(2).mean()
    return 0.5 * values - gain - 0.01 * Categorical(logits=logits).entropy().mean()


def continuous(logits: Tensor, _: Tensor) -> Tensor:
    policy = Normal(logits, logits.exp())
    return -(policy.log_prob(torch.zeros(NUM, ACTIONS)).sum(1) * ADVANTAGES).mean()


def of_fixed_width(logits: Tensor, _: Tensor) -> Tensor:
    return -(Normal(logits, 0.5).log_prob(torch.zeros(NUM, ACTIONS)).sum(1) * ADVANTAGES).mean()


POLICIES: dict[str, Loss] = {
    "returns": lambda logits, actions: -(drawn(logits, actions) * RETURNS).mean(),
    "small returns": lambda logits, actions: -(drawn(logits, actions) * RETURNS / 99).mean(),
    "advantages": lambda logits, actions: (ADVANTAGES * -picked(logits, actions)).sum(),
    "picked": lambda logits, actions: -(picked(logits, actions) * RETURNS).mean(),
    "cross entropy": lambda logits, actions: (each(logits, actions) * RETURNS).mean() * 0.5,
    "indexed": lambda logits, actions: (
        -(F.log_softmax(logits, 1)[torch.arange(NUM), actions] * RETURNS).mean()
    ),
    "one by one": one_by_one,
    "added up": added_up,
    "surrogate": surrogate,
    "continuous": continuous,
    "of fixed width": of_fixed_width,
}
OTHERS: dict[str, Loss] = {
    "cross entropy": F.cross_entropy,
    "scaled": lambda logits, actions: F.cross_entropy(logits, actions) * 3,
    "by hand": lambda logits, actions: -picked(logits, actions).sum() / NUM,
    "class weights": lambda logits, actions: (
        each(logits, actions) * CLASS_WEIGHTS[actions]
    ).mean(),
    "weights in it": lambda logits, actions: F.cross_entropy(logits, actions, CLASS_WEIGHTS),
    "mask": lambda logits, actions: -(drawn(logits, actions) * MASK).sum() / MASK.sum(),
    "sample weights": lambda logits, actions: (each(logits, actions) * SAMPLE_WEIGHTS).mean(),
    "focal": lambda logits, actions: (
        (1 - (-each(logits, actions)).exp().detach()) ** 2 * each(logits, actions)
    ).mean(),
    "one at a time": lambda logits, actions: torch.stack(
        [F.cross_entropy(a[None], b[None]) / NUM for a, b in zip(logits, actions, strict=True)]
    ).sum(),
    "regression": lambda logits, _: ((logits.sum(1) - RETURNS).pow(2) * SAMPLE_WEIGHTS).mean(),
    "distillation": lambda logits, _: (
        -(F.log_softmax(logits, 1) * torch.rand(NUM, ACTIONS).softmax(1)).sum(1).mean()
    ),
    "likelihood": lambda logits, _: (
        -Normal(logits, logits.exp()).log_prob(torch.zeros(NUM, ACTIONS)).mean()
    ),
}


def is_policy(loss: Loss) -> bool:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(NUM, ACTIONS, generator=generator, requires_grad=True)
    actions = torch.randint(ACTIONS, (NUM,), generator=generator)
    return is_policy_loss(LossGraph([loss(logits * 1.0, actions).grad_fn]))


@pytest.mark.parametrize("loss", POLICIES.values(), ids=POLICIES)
def test_log_probabilities_times_returns_are_a_policy_loss(loss: Loss) -> None:
    assert is_policy(loss)


@pytest.mark.parametrize("loss", OTHERS.values(), ids=OTHERS)
def test_weights_of_samples_and_classes_are_none(loss: Loss) -> None:
    assert not is_policy(loss)
