"""SG801 on preference losses whose reference is the policy itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.self_reference_words import words_of_self_reference  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.self_references import zero_difference  # noqa: E402
from seismograd.capture.source.reference_statements import reference_statement  # noqa: E402
from seismograd.schema import Fact, FactKind  # noqa: E402
from tests.rules.programs import Listen, Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

STATE, ACTIONS, NUM = 6, 5, 24
Margin = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Chooser(nn.Module):
    """What it would choose; an adapter beside it that can be disabled."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Sequential(nn.Linear(STATE, 16), nn.Tanh(), nn.Linear(16, ACTIONS))
        self.base.requires_grad_(False)
        self.down, self.up = nn.Linear(STATE, 4, bias=False), nn.Linear(4, ACTIONS, bias=False)
        nn.init.zeros_(self.up.weight)
        self.is_off = False

    @contextmanager
    def disable_adapter(self) -> Any:
        self.is_off = True
        yield
        self.is_off = False

    def forward(self, state: Tensor) -> Tensor:
        out = self.base(state)
        return out if self.is_off else out + self.up(self.down(state))

    def log_prob(self, state: Tensor, action: Tensor) -> Tensor:
        return self(state).log_softmax(-1).gather(1, action[:, None]).squeeze(1)


def pairs(step: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    state = torch.randn(NUM, STATE, generator=generator)
    better = state[:, :ACTIONS].argmax(1)
    return state, better, (better + 1 + torch.randint(3, (NUM,), generator=generator)) % ACTIONS


def preference(margin: Tensor) -> Tensor:
    return -F.logsigmoid(0.3 * margin).mean()


def soft_margin(margin: Tensor) -> Tensor:
    return F.softplus(-margin / 2).mean()


def labelled(margin: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(margin, torch.ones_like(margin))


Reference = Callable[[Chooser, Tensor, Tensor], Tensor]


def live(policy: Chooser, state: Tensor, action: Tensor) -> Tensor:
    with torch.no_grad():
        return policy.log_prob(state, action)


def without_adapter(policy: Chooser, state: Tensor, action: Tensor) -> Tensor:
    with torch.no_grad(), policy.disable_adapter():
        return policy.log_prob(state, action)


def preferring(
    loss: Callable[[Tensor], Tensor],
    reference: Reference = live,
    lr: Callable[[int], float] = lambda step: 1.0,
    steps: int = 24,
    accumulate: int = 1,
) -> Program:
    def program(listen: Listen) -> None:
        policy = Chooser()
        optimizer = torch.optim.Adam([*policy.down.parameters(), *policy.up.parameters()], 1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lr)
        with listen(policy, optimizer):
            for step in range(steps):
                optimizer.zero_grad()
                for part in range(accumulate):
                    state, better, worse = pairs(100 * part + step)
                    gained = policy.log_prob(state, better) - reference(policy, state, better)
                    lost = policy.log_prob(state, worse) - reference(policy, state, worse)
                    (loss(gained - lost) / accumulate).backward()
                optimizer.step()
                schedule.step()

    return program


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (preference, "logsigmoid"),
        (soft_margin, "softplus"),
        (labelled, "binary_cross_entropy_with_logits"),
    ],
)
def test_a_reference_that_is_the_policy_is_told(
    loss: Callable[[Tensor], Tensor], name: str, tmp_path: Path
) -> None:
    (finding,) = judged(preferring(loss), tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG801", "error")
    assert (finding.first_step, finding.last_step) == (0, 23)
    assert finding.cause.render().startswith(f"{name} in the loss at ")
    assert finding.excerpt.startswith("with torch.no_grad(), policy.disable_adapter():\n")


@pytest.mark.parametrize("steps", [16, 31, 32, 33])
def test_it_is_told_wherever_the_run_ends(steps: int, tmp_path: Path) -> None:
    (finding,) = judged(preferring(preference, steps=steps), tmp_path / "run")
    assert finding.last_step == steps - 1


def with_noise(policy: Chooser, state: Tensor, action: Tensor) -> Tensor:
    return live(policy, state + 1e-4 * torch.randn_like(state), action)


HEALTHY: dict[str, Program] = {
    "the adapter is disabled": preferring(preference, without_adapter),
    "several backwards of a step": preferring(preference, without_adapter, accumulate=4),
    "a warm-up from zero": preferring(
        preference, without_adapter, lambda step: min(1.0, max(0, step - 9) / 8)
    ),
    "still in a warm-up": preferring(preference, without_adapter, lambda step: 1e-12 * step),
    "other dropout": preferring(preference, with_noise),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_reference_that_stays_is_healthy(kind: str, tmp_path: Path) -> None:
    assert "SG801" not in {each.code for each in judged(HEALTHY[kind], tmp_path / "run")}


@pytest.mark.parametrize("steps", [8, 16, 32])
def test_a_difference_that_comes_at_the_last_check_is_one(steps: int, tmp_path: Path) -> None:
    calls: list[int] = []

    def late(policy: Chooser, state: Tensor, action: Tensor) -> Tensor:
        calls.append(1)
        kept = live(policy, state, action)
        return kept * 1.5 if len(calls) > 2 * (steps - 1) else kept

    assert judged(preferring(preference, late, steps=steps), tmp_path / "run") == ()


def graph_of(loss: Callable[[Chooser], Tensor]) -> str:
    return zero_difference(LossGraph([loss(Chooser()).grad_fn]))


def policy_gradient(policy: Chooser) -> Tensor:
    """A PPO of one update for each batch: the ratio is one by design."""
    state, action, _ = pairs(0)
    ratio = (policy.log_prob(state, action) - live(policy, state, action)).exp()
    return -(ratio * state[:, 0]).mean()


def ranking(policy: Chooser) -> Tensor:
    """Two scores with a graph, alike at first."""
    state, better, worse = pairs(0)
    score = policy.up(policy.down(state))
    one, other = (score.gather(1, each[:, None]) for each in (better, worse))
    return -F.logsigmoid(one - other).mean()


def untrained_critic(policy: Chooser) -> Tensor:
    out = policy.up(policy.down(pairs(0)[0]))
    return F.binary_cross_entropy_with_logits(out, torch.ones_like(out))


@pytest.mark.parametrize("loss", [policy_gradient, ranking, untrained_critic])
def test_what_is_zero_or_one_by_design_is_left_alone(loss: Callable[[Chooser], Tensor]) -> None:
    assert graph_of(loss) == ""


SCRIPT = """
def step(policy, batch, old):
    now = policy(batch)
    with torch.no_grad():
        {statement}
    loss = -logsigmoid(now - past).mean()
    loss.backward()


def check(policy, batch):
    with torch.no_grad():
        return policy(batch).mean()
"""


def test_the_line_of_the_reference_is_shown(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(SCRIPT.replace("{statement}", "past = policy(batch)"), encoding="utf-8")
    found = reference_statement(str(script), 7)
    assert found is not None
    assert (found.line, found.text) == (5, "past = policy(batch)")
    script = tmp_path / "other.py"
    script.write_text(SCRIPT.replace("{statement}", "past = batch.past"), encoding="utf-8")
    assert reference_statement(str(script), 7) is None


def test_without_an_adapter_a_copy_is_shown() -> None:
    values = {"operation": "logsigmoid", "times": 6.0, "adapted": ""}
    fact = Fact(FactKind.SELF_REFERENCE, 31, "step.py:7", values=values)
    cause, _, excerpt = words_of_self_reference(fact)
    assert "logsigmoid in the loss at step.py:7" in cause.render()
    assert excerpt.startswith("reference = copy.deepcopy(model)")
