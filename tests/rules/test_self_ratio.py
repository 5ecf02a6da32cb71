"""SG109 on ratios of a policy with itself, beside terms that keep its gradients alive."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.distributions import Categorical, Normal  # noqa: E402

from seismograd.analysis.self_ratio_words import words_of_self_ratio  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.self_ratios import self_ratios  # noqa: E402
from seismograd.capture.source.policy_ratios import policy_ratio, same_object  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import Fact, FactKind  # noqa: E402
from tests.rules.programs import Listen, Program, adam  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

NUM, FEATURES, ACTIONS = 12, 5, 3
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh())
        self.actor, self.critic = nn.Linear(8, ACTIONS), nn.Linear(8, 1)

    def forward(self, state: Tensor) -> Tensor:
        return self.actor(self.body(state))


def transitions(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(NUM, FEATURES, generator=generator)
    action = torch.randint(ACTIONS, (NUM,), generator=generator)
    return state, action, torch.randn(NUM, generator=generator)


def log_prob(net: nn.Module, state: Tensor, action: Tensor) -> Tensor:
    return Categorical(logits=net(state)).log_prob(action)


def surrogate(ratio: Tensor, advantage: Tensor) -> Tensor:
    return -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()


def computed_twice(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    new, old = log_prob(net, state, action), log_prob(net, state, action)
    return surrogate((new - old).exp(), advantage)


def same_tensor(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    new = log_prob(net, state, action)
    return surrogate(torch.exp(new - new), advantage)


def continuous(net: nn.Module, state: Tensor, _: Tensor, advantage: Tensor) -> Tensor:
    drawn = torch.zeros(NUM, ACTIONS)
    new, old = (Normal(net(state), 0.5).log_prob(drawn) for _ in range(2))
    return surrogate((new - old).sum(1).clamp(-20, 20).exp(), advantage)


def of_probabilities(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    new, old = (net(state).softmax(1).gather(1, action[:, None]) for _ in range(2))
    return surrogate((new / old).squeeze(1), advantage)


def of_exponentials(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    new, old = log_prob(net, state, action), log_prob(net, state, action)
    return surrogate(new.exp() / old.exp(), advantage)


def reference(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    """The divergence from a reference that is the policy itself."""
    new, old = log_prob(net, state, action), log_prob(net, state, action)
    kl = torch.exp(old - new) - (old - new) - 1
    return (kl - advantage * new).mean()


def kept(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    with torch.no_grad():
        old = log_prob(net, state, action)
    return surrogate((log_prob(net, state, action) - old).exp(), advantage)


def detached(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    new = log_prob(net, state, action)
    return surrogate(torch.exp(new - new.detach()), advantage)


def of_a_copy(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    """The weights of the old policy are others, though they are the same numbers at first."""
    old = log_prob(copy.deepcopy(net), state, action)
    return surrogate((log_prob(net, state, action) - old).exp(), advantage)


def importance(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    """The weights of a policy gradient, which are one where the actions are its own."""
    new, old = log_prob(net, state, action), log_prob(net, state, action)
    return -((new - old).exp() * new * advantage).mean()


def softmax_of_one(net: nn.Module, state: Tensor, _: Tensor, advantage: Tensor) -> Tensor:
    """Attention by hand, over a source of a single position."""
    score = net(state)[:, :1]
    weight = torch.exp(score - score.max(1, keepdim=True).values)
    return F.mse_loss(weight[:, 0] * advantage, net(state)[:, 1])


def one_number(net: nn.Module, state: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    new, old = log_prob(net, state, action)[:1], log_prob(net, state, action)[:1]
    return -((new - old).exp() * advantage[:1]).mean()


FAULTY = (computed_twice, same_tensor, continuous, of_probabilities, of_exponentials, reference)
HEALTHY = (kept, detached, of_a_copy, importance, softmax_of_one, one_number)


def ratios_of_one(loss: Loss) -> list[bool]:
    graph = LossGraph([loss(Policy(), *transitions()).grad_fn])
    return [is_one for _, is_one in self_ratios(graph)]


@pytest.mark.parametrize("loss", FAULTY)
def test_a_ratio_with_itself_is_found(loss: Loss) -> None:
    assert ratios_of_one(loss) == [True]


@pytest.mark.parametrize("loss", HEALTHY)
def test_other_ratios_are_left_alone(loss: Loss) -> None:
    assert ratios_of_one(loss) == []


def ppo(loss: Loss) -> Program:
    """With an entropy and a value loss, which keep all gradients alive."""

    def program(listen: Listen) -> None:
        net = Policy()
        optimizer = adam(net)
        with listen(net, optimizer):
            for step in range(12):
                state, action, advantage = transitions(step)
                value = net.critic(net.body(state)).squeeze(1)
                entropy = Categorical(logits=net(state)).entropy().mean()
                total = loss(net, state, action, advantage) - 0.01 * entropy
                optimizer.zero_grad()
                (total + F.mse_loss(value, advantage)).backward()
                optimizer.step()

    return program


@pytest.mark.parametrize("loss", [computed_twice, same_tensor, continuous])
def test_a_policy_that_other_terms_train_is_told(loss: Loss, tmp_path: Path) -> None:
    (finding,) = judged(ppo(loss), tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG109", "error")
    assert (finding.first_step, finding.last_step) == (0, 7)
    assert finding.parameters == ("body.0.weight", "body.0.bias", "actor.weight", "actor.bias")
    assert "the same 4 parameters" in finding.cause.render()
    assert "no_grad()" in finding.excerpt


class Agent:
    """The old policy is another name of the policy, which the ratio's line does not show."""

    def __init__(self, *, copied: bool) -> None:
        self.policy = Policy()
        self.old = self.policy
        if copied:
            self.old = copy.deepcopy(self.policy)
        self.optimizer = adam(self.policy)


def by_another_name(*, copied: bool) -> Program:
    def program(listen: Listen) -> None:
        agent = Agent(copied=copied)
        with listen(agent.policy, agent.optimizer):
            for step in range(12):
                state, action, advantage = transitions(step)
                new = Categorical(logits=agent.policy(state))
                old = Categorical(logits=agent.old(state))
                loss = surrogate((new.log_prob(action) - old.log_prob(action)).exp(), advantage)
                agent.optimizer.zero_grad()
                (loss - 0.01 * new.entropy().mean()).backward()
                agent.optimizer.step()

    return program


def test_an_old_policy_that_is_a_copy_is_left_alone(tmp_path: Path) -> None:
    assert "SG109" not in {each.code for each in judged(by_another_name(copied=True), tmp_path)}
    (tmp_path / "one").mkdir()
    (finding,) = (
        each
        for each in judged(by_another_name(copied=False), tmp_path / "one" / "run")
        if each.code == "SG109"
    )
    assert finding.parameters[-1] == "actor.bias"


def ranking(listen: Listen) -> None:
    """A loss of pairs, whose scores are all zero at first, as the last layer is: at several
    backwards of one step, and once more after a step of a learning rate of zero.
    """
    net = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 1))
    nn.init.zeros_(net[2].weight)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
    with listen(net, optimizer):
        for step in range(16):
            optimizer.zero_grad()
            for part in range(4):
                better, worse = (transitions(10 * step + part + seed)[0] for seed in (0, 5))
                (torch.exp(net(worse) - net(better) + 0.0 * part).mean() / 4).backward()
            optimizer.step()
            warmup.step()


def test_scores_that_are_alike_at_first_are_no_ratio(tmp_path: Path) -> None:
    assert judged(ranking, tmp_path / "run") == ()
    told = [each for each in open_run(tmp_path / "run").facts if each.kind == FactKind.SELF_RATIO]
    assert all(each.number("times") < 3 for each in told)


SCRIPT = """
import torch
from torch import nn
from torch.distributions import Categorical


class Net(nn.Linear):
    def log_prob(self, state, action):
        return Categorical(logits=self(state)).log_prob(action)


class Algorithm:
    def __init__(self):
        self.net = Net(4, 3)
        self.old = self.net
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def update(self, state, action, advantage):
        policy = Categorical(logits=self.net(state))
        ratio = (policy.log_prob(action) - self.old.log_prob(state, action)).exp()
        loss = -(ratio * advantage).mean() - 0.1 * policy.entropy().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


algorithm = Algorithm()
for _ in range(6):
    algorithm.update(torch.randn(8, 4), torch.randint(3, (8,)), torch.randn(8))
"""


def line_of(text: str) -> int:
    return next(number for number, each in enumerate(SCRIPT.splitlines(), 1) if text in each)


def test_the_alias_is_shown_as_a_copy(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    shown = policy_ratio(str(script))
    assert shown is not None
    assert shown.line == line_of("ratio = ")
    alias = same_object(shown)
    assert alias is not None
    assert (alias.text, alias.line) == ("self.old = self.net", line_of("self.old = "))
    fact = Fact(
        FactKind.SELF_RATIO,
        3,
        parameters=("weight",),
        values={"num": 1, "ratio": shown.place, "text": alias.text, "is_alias": 1.0},
    )
    cause, _, excerpt = words_of_self_ratio(fact)
    assert f"train.py:{shown.line} compares a policy with itself" in cause.render()
    assert excerpt == "self.old = copy.deepcopy(self.net).requires_grad_(False)"


def test_of_several_ratios_none_is_named(tmp_path: Path) -> None:
    assert policy_ratio(inspect.getfile(Policy)) is None
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace(".exp()", ""), encoding="utf-8")
    assert policy_ratio(str(script)) is None
