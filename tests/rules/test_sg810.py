"""SG810 on clipped ratios of policies that act, and learn from what they did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.distributions import Categorical, Normal  # noqa: E402

from tests.rules.programs import Listen, Program, adam  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

NUM, FEATURES, ACTIONS = 64, 5, 3
Evaluate = Callable[["Policy", Tensor, Tensor], Tensor]  # log-probabilities


class Policy(nn.Module):
    """`gain`: of the last layer, which makes a policy nearly uniform where it is small."""

    def __init__(self, gain: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Dropout(dropout))
        self.actor = nn.Linear(8, ACTIONS)
        nn.init.orthogonal_(self.actor.weight, gain)

    def distribution(self, state: Tensor) -> Categorical:
        return Categorical(logits=self.actor(self.body(state)))

    def continuous(self, state: Tensor) -> Normal:
        return Normal(self.actor(self.body(state)), 0.5)


def stored(policy: Policy, state: Tensor, action: Tensor) -> Tensor:
    return policy.distribution(state).log_prob(action)


def resampled(policy: Policy, state: Tensor, _: Tensor) -> Tensor:
    distribution = policy.distribution(state)
    return distribution.log_prob(distribution.sample())


def shuffled(policy: Policy, state: Tensor, action: Tensor) -> Tensor:
    return policy.distribution(state).log_prob(action[torch.randperm(len(action))])


def ppo(
    evaluate: Evaluate,
    clip: Callable[[Tensor], Tensor] = lambda ratio: ratio.clamp(0.8, 1.2),
    gain: float = 1.0,
    dropout: float = 0.0,
    before: int = 0,
) -> Program:
    """`before`: steps that imitate somebody."""

    def program(listen: Listen) -> None:
        policy = Policy(gain, dropout)
        optimizer = adam(policy, 1e-3)
        with listen(policy, optimizer):
            for _ in range(before):
                optimizer.zero_grad()
                policy.distribution(torch.randn(NUM, FEATURES)).logits.square().mean().backward()
                optimizer.step()
            for _ in range(4):
                state = torch.randn(NUM, FEATURES)
                with torch.no_grad():
                    distribution = policy.distribution(state)
                    action = distribution.sample()
                    old = distribution.log_prob(action)
                advantage = torch.randn(NUM)
                for _ in range(2):
                    for rows in torch.randperm(NUM).split(32):
                        new = evaluate(policy, state[rows], action[rows])
                        ratio = (new - old[rows]).exp()
                        both = ratio * advantage[rows], clip(ratio) * advantage[rows]
                        optimizer.zero_grad()
                        (-torch.min(*both).mean()).backward()
                        optimizer.step()

    return program


def of_numbers(listen: Listen) -> None:
    """Continuous actions of several dimensions, whose log-probabilities are added."""
    policy = Policy()
    optimizer = adam(policy, 1e-3)
    with listen(policy, optimizer):
        for _ in range(3):
            state = torch.randn(NUM, FEATURES)
            with torch.no_grad():
                old = policy.continuous(state)
                old_log_prob = old.log_prob(old.sample()).sum(1)
            new = policy.continuous(state)
            ratio = torch.exp(new.log_prob(new.sample()).sum(1) - old_log_prob)
            loss = -torch.min(ratio, ratio.clamp(0.8, 1.2)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


FAULTY: dict[str, Program] = {
    "resampled": ppo(resampled),
    "of a nearly uniform policy": ppo(resampled, gain=0.05),
    "of other samples": ppo(shuffled),
    "with another dropout": ppo(stored, dropout=0.5),
    "continuous": of_numbers,
}
HEALTHY: dict[str, Program] = {
    "stored": ppo(stored),
    "clipped from above alone": ppo(resampled, clip=lambda ratio: ratio.clamp(max=1.2)),
    "not around one": ppo(resampled, clip=lambda ratio: ratio.clamp(1e-6, 100.0)),
    "behind steps of another loss": ppo(resampled, before=3),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_ratio_that_does_not_begin_at_one_is_told(name: str, tmp_path: Path) -> None:
    (finding,) = (f for f in judged(FAULTY[name], tmp_path / "run") if f.code == "SG810")
    assert (finding.severity, finding.first_step) == ("warning", 0)
    assert "actor.weight" in finding.parameters
    assert finding.evidence[0].value > 0.2
    assert "before any step, " in finding.cause.render()


@pytest.mark.parametrize("name", HEALTHY)
def test_other_ratios_are_left_alone(name: str, tmp_path: Path) -> None:
    assert "SG810" not in {f.code for f in judged(HEALTHY[name], tmp_path / "run")}
