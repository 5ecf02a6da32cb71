"""SG806 on graphs of losses of actors and critics, and on a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.distributions import Categorical, Normal  # noqa: E402

from seismograd.capture.graph.advantages import undetached  # noqa: E402
from seismograd.capture.graph.bootstrapped_targets import live_target  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.source.bootstrapping import bootstrapping  # noqa: E402
from seismograd.capture.source.policy_losses import policy_losses  # noqa: E402
from seismograd.rules.sg806_undetached_advantage import _detached  # noqa: E402
from tests.rules.programs import Listen, adam  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

NUM, FEATURES, ACTIONS = 8, 5, 3
Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh())
        self.actor, self.critic = nn.Linear(8, ACTIONS), nn.Linear(8, 1)


def given(net: ActorCritic) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Logits, values, actions, returns, and log-probabilities as they were."""
    generator = torch.Generator().manual_seed(0)
    h = net.body(torch.randn(NUM, FEATURES, generator=generator))
    actions = torch.randint(ACTIONS, (NUM,), generator=generator)
    returns = torch.randn(NUM, generator=generator)
    old = torch.full((NUM,), -1.1)
    return net.actor(h), net.critic(h).squeeze(1), actions, returns, old


def log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    return Categorical(logits=logits).log_prob(actions)


def a2c(logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, _: Tensor) -> Tensor:
    advantage = returns - values
    return -(log_prob(logits, actions) * advantage).mean() + 0.5 * advantage.pow(2).mean()


def of_probabilities(
    logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, _: Tensor
) -> Tensor:
    policy = Categorical(logits.softmax(-1))
    gain = (policy.log_prob(actions) * (returns - values)).mean()
    return F.mse_loss(values, returns) - gain - 0.01 * policy.entropy().mean()


def by_hand(logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, _: Tensor) -> Tensor:
    picked = F.log_softmax(logits, 1).gather(1, actions[:, None]).squeeze(1)
    advantage = returns - values
    normal = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    return F.smooth_l1_loss(values, returns) + (normal * -picked).mean()


def clipped(
    logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, old: Tensor
) -> Tensor:
    ratio = (log_prob(logits, actions) - old).exp()
    advantage = returns - values
    surrogate = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
    return (returns - values).pow(2).mean() - surrogate.mean()


def bootstrapped(
    logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, _: Tensor
) -> Tensor:
    target = returns[:-1] + 0.9 * values[1:].detach()
    delta = target - values[:-1]
    return F.mse_loss(values[:-1], target) - (log_prob(logits, actions)[:-1] * delta).mean()


def continuous(logits: Tensor, values: Tensor, _: Tensor, returns: Tensor, __: Tensor) -> Tensor:
    policy = Normal(logits, F.softplus(logits) + 0.1)
    gain = policy.log_prob(torch.zeros(NUM, ACTIONS)).sum(1) * (returns - values)
    return F.mse_loss(values, returns) - gain.mean()


def of_a_rollout(
    logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, _: Tensor
) -> Tensor:
    """Step by step, as they come from an environment, and more of them than are looked at."""
    policies = [Categorical(logits=logits) for _ in range(80)]
    logs = torch.stack([policy.log_prob(actions) for policy in policies])
    advantage = returns - torch.stack([values + 0.0 for _ in policies])
    return -(logs * advantage).mean() + 0.5 * advantage.pow(2).mean()


def detached(loss: Loss) -> Loss:
    """The same with the values of the policy's loss taken out of the graph."""

    def of(logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, old: Tensor) -> Tensor:
        apart = loss(logits, values.detach(), actions, returns, old)
        return apart + F.mse_loss(values, returns)

    return of


def focal(logits: Tensor, _: Tensor, actions: Tensor, __: Tensor, ___: Tensor) -> Tensor:
    picked = F.log_softmax(logits, 1).gather(1, actions[:, None])
    return -((1 - picked.exp()) ** 2 * picked).mean()


def weighted(logits: Tensor, values: Tensor, actions: Tensor, _: Tensor, __: Tensor) -> Tensor:
    """Samples are given weights that are learned and kept near one."""
    weight = values.sigmoid()
    return (weight * F.cross_entropy(logits, actions, reduction="none")).mean() + (
        (weight - 1) ** 2
    ).mean()


def picked_and_weighted(
    logits: Tensor, values: Tensor, actions: Tensor, _: Tensor, __: Tensor
) -> Tensor:
    weight = values.sigmoid()
    return (weight - 1).pow(2).mean() - (weight * log_prob(logits, actions)).mean()


def entropy_of(logits: Tensor, values: Tensor, _: Tensor, returns: Tensor, __: Tensor) -> Tensor:
    logs = F.log_softmax(logits, 1)
    return F.mse_loss(values, returns) + (logs.exp() * logs).sum(1).mean()


FAULTY: dict[str, Loss] = {
    "a2c": a2c,
    "of probabilities": of_probabilities,
    "by hand": by_hand,
    "clipped": clipped,
    "bootstrapped": bootstrapped,
    "continuous": continuous,
    "of a rollout": of_a_rollout,
}
HEALTHY: dict[str, Loss] = {
    **{f"{name}, detached": detached(loss) for name, loss in FAULTY.items()},
    "focal": focal,
    "weighted": weighted,
    "picked and weighted": picked_and_weighted,
    "entropy": entropy_of,
}


@pytest.mark.parametrize("loss", FAULTY.values(), ids=FAULTY)
def test_an_advantage_with_a_graph_is_found(loss: Loss) -> None:
    assert undetached(LossGraph([loss(*given(ActorCritic())).grad_fn])) is not None


@pytest.mark.parametrize("loss", HEALTHY.values(), ids=HEALTHY)
def test_other_products_are_left_alone(loss: Loss) -> None:
    assert undetached(LossGraph([loss(*given(ActorCritic())).grad_fn])) is None


def test_a_program_is_told_which_parameters(tmp_path: Path) -> None:
    def program(listen: Listen) -> None:
        net = ActorCritic()
        optimizer = adam(net)
        with listen(net, optimizer):
            for _ in range(5):
                optimizer.zero_grad()
                a2c(*given(net)).backward()
                optimizer.step()

    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG806", "error", 0)
    assert finding.parameters == ("critic.weight", "critic.bias")
    assert "detach()" in finding.excerpt


def q_learning(
    net: nn.Module, state: Tensor, after: Tensor, reward: Tensor, over: Tensor
) -> Tensor:
    q = net(state).gather(1, torch.zeros(NUM, 1, dtype=torch.long)).squeeze(1)
    return F.smooth_l1_loss(q, reward + 0.99 * net(after).max(1).values * (1 - over))


def of_a_value(net: nn.Module, state: Tensor, after: Tensor, reward: Tensor, _: Tensor) -> Tensor:
    target = reward + 0.9 * net(after)[:, 0]
    return (net(state)[:, 0] - target).pow(2).mean()


def backwards(net: nn.Module, state: Tensor, after: Tensor, reward: Tensor, over: Tensor) -> Tensor:
    delta = reward + (1 - over) * 0.95 * net(after)[:, 1] - net(state)[:, 1]
    return (delta * delta).mean()


def of_steps(net: nn.Module, state: Tensor, after: Tensor, reward: Tensor, over: Tensor) -> Tensor:
    """The returns of a rollout, from its end to its beginning, and joined in their order."""
    running, returns = net(after)[:, 1], []
    for _ in range(4):
        running = reward + 0.9 * running * (1 - over)
        returns.insert(0, running)
    values = torch.stack([net(state)[:, 1] for _ in returns])
    return (torch.stack(returns) - values).pow(2).mean()


def without_graph(
    net: nn.Module, state: Tensor, after: Tensor, reward: Tensor, _: Tensor
) -> Tensor:
    with torch.no_grad():
        target = reward + 0.9 * net(after)[:, 0]
    return F.mse_loss(net(state)[:, 0], target)


def by_a_target_network(
    net: nn.Module, state: Tensor, after: Tensor, reward: Tensor, _: Tensor
) -> Tensor:
    other = nn.Linear(FEATURES, ACTIONS)
    return F.mse_loss(net(state)[:, 0], reward + 0.9 * other(after)[:, 0])


def twins(net: nn.Module, state: Tensor, after: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return F.mse_loss(net(state), net(after))


def dynamics(net: nn.Module, state: Tensor, after: Tensor, force: Tensor, _: Tensor) -> Tensor:
    """Both sides of an equation, one of which is a tenth of a step further."""
    return F.mse_loss(net(after)[:, 0], net(state)[:, 0] + 0.1 * force)


def of_steps_without_graph(
    net: nn.Module, state: Tensor, after: Tensor, reward: Tensor, over: Tensor
) -> Tensor:
    """Joined as well, of returns that are data, and of values that are not."""
    with torch.no_grad():
        returns = torch.stack([reward + 0.9 * net(after)[:, 1] for _ in range(4)])
    values = torch.stack([0.9 * net(state)[:, 1] + net(after)[:, 1] for _ in range(4)])
    return F.mse_loss(values, returns)


TARGETS = {
    "q": (q_learning, 0.99),
    "value": (of_a_value, 0.9),
    "by hand": (backwards, 0.95),
    "steps": (of_steps, 0.9),
}
NO_TARGETS = (without_graph, by_a_target_network, twins, dynamics, of_steps_without_graph)
Regression = Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor], Tensor]


def of_transitions(loss: Regression, net: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    state, after = torch.randn(2, NUM, FEATURES, generator=generator)
    reward, over = torch.rand(2, NUM, generator=generator)
    return loss(net, state, after, reward, over.round())


@pytest.mark.parametrize(("loss", "discount"), TARGETS.values(), ids=TARGETS)
def test_a_target_with_a_graph_is_found(loss: Regression, discount: float) -> None:
    net = nn.Linear(FEATURES, ACTIONS)
    found = live_target(LossGraph([of_transitions(loss, net).grad_fn]))
    assert found is not None
    assert found[2] == pytest.approx(discount)


@pytest.mark.parametrize("loss", NO_TARGETS)
def test_other_regressions_are_left_alone(loss: Regression) -> None:
    net = nn.Linear(FEATURES, ACTIONS)
    assert live_target(LossGraph([of_transitions(loss, net).grad_fn])) is None


def test_a_program_is_told_how_its_target_is_computed(tmp_path: Path) -> None:
    def program(listen: Listen) -> None:
        net = nn.Linear(FEATURES, ACTIONS)
        optimizer = adam(net)
        with listen(net, optimizer):
            for _ in range(5):
                optimizer.zero_grad()
                of_transitions(of_a_value, net).backward()
                optimizer.step()

    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.first_step) == ("SG806", 0)
    assert finding.parameters == ("weight", "bias")
    assert "discount 0.9" in finding.cause.render()
    assert finding.excerpt.startswith("with torch.no_grad():\n    ")


SURROGATES = (
    "surr1 = ratio * adv\nsurr2 = ratio.clamp(0.8, 1.2) * adv",
    "surr1 = ratio * adv.detach()\nsurr2 = ratio.clamp(0.8, 1.2) * adv.detach()",
)


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("p = -(log_prob * advantage).mean()", "p = -(log_prob * advantage.detach()).mean()"),
        (
            "p = torch.max(-adv * ratio, -adv * ratio.clamp(0.8, 1.2)).mean()",
            "p = torch.max(-adv.detach() * ratio, -adv.detach() * ratio.clamp(0.8, 1.2)).mean()",
        ),
        SURROGATES,
        ("p = (log_prob * adv).mean() - (beta * log_pi).mean()", ""),
        ("p = loss.mean()", ""),
    ],
)
def test_what_is_multiplied_with_a_log_probability_is_detached(text: str, mended: str) -> None:
    assert _detached(text) == mended


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (("target = reward + gamma * net(after)", "sum = one + gamma * two"), 1),
        (("after = net(state)", "target = reward + gamma * after * (1 - done)"), 2),
        (("a = reward + gamma * after", "b = a + gamma * after"), 0),
        (("total = one + two",), 0),
    ],
)
def test_the_statement_that_bootstraps_is_found(
    lines: tuple[str, ...], line: int, tmp_path: Path
) -> None:
    (script := tmp_path / "train.py").write_text("\n".join(lines) + "\n")
    found = bootstrapping(str(script))
    assert (0 if found is None else found.line) == line


def test_the_statements_of_one_loss_are_found_together(tmp_path: Path) -> None:
    (script := tmp_path / "train.py").write_text(SURROGATES[0] + "\n")
    assert [each.line for each in policy_losses(str(script))] == [1, 2]
    apart = SURROGATES[0].replace("\n", "\n" * 9)
    (other := tmp_path / "other.py").write_text(apart + "\n")
    assert policy_losses(str(other)) == []
