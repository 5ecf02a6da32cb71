"""SG313 on networks that are trained against or through each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.optim import Adam, Optimizer  # noqa: E402

from seismograd.capture.graph.judged_outputs import pushed  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from tests.rules.programs import Listen, Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

STEPS, NUM = 24, 16
Turn = Callable[[nn.Module, nn.Module, Optimizer, Optimizer, int], None]


def net(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


def program(turn: Turn) -> Program:
    """Two networks, each with an optimizer of its own: what acts, and what judges that."""

    def run(listen: Listen) -> None:
        torch.manual_seed(0)
        acts, judges = net(4, 2), net(6, 1)
        acting, judging = Adam(acts.parameters(), 1e-3), Adam(judges.parameters(), 1e-3)
        with listen(acts, judges, acting, judging):
            for step in range(STEPS):
                turn(acts, judges, acting, judging, step)

    return run


def seen(step: int) -> Tensor:
    return torch.randn(NUM, 4, generator=torch.Generator().manual_seed(step))


def wanted(state: Tensor, action: Tensor) -> Tensor:
    return -(action - state[:, :2]).square().sum(1, keepdim=True)


def value(judges: nn.Module, state: Tensor, action: Tensor) -> Tensor:
    return judges(torch.cat([state, action], 1))


def regression(judges: nn.Module, state: Tensor) -> Tensor:
    action = torch.randn(NUM, 2, generator=torch.Generator().manual_seed(7))
    return F.mse_loss(value(judges, state, action), wanted(state, action))


def cleared_after_the_step(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    """The critic's gradients are cleared before the actor's backward adds to them."""
    state = seen(step)
    regression(judges, state).backward()
    judging.step()
    judging.zero_grad()
    acting.zero_grad()
    (-value(judges, state, acts(state))).mean().backward()
    acting.step()


def soft_actor(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    """An entropy beside the value, and the critic's turn after the actor's."""
    state = seen(step)
    judging.zero_grad()
    acting.zero_grad()
    mean = acts(state)
    action = mean + torch.randn_like(mean)
    entropy = 0.2 * (action.detach() - mean).square().sum(1, keepdim=True)
    (entropy - value(judges, state, action)).mean().backward()
    acting.step()
    regression(judges, state).backward()
    judging.step()


def generator_first(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    """Both are cleared once, and the discriminator's turn comes second."""
    acting.zero_grad()
    judging.zero_grad()
    state = seen(step)
    made, real = acts(state), state[:, :2]
    ones, zeros = torch.ones(NUM, 1), torch.zeros(NUM, 1)
    F.binary_cross_entropy_with_logits(value(judges, state, made), ones).backward()
    acting.step()
    loss = F.binary_cross_entropy_with_logits(value(judges, state, real), ones)
    fake = value(judges, state, made.detach())
    (loss + F.binary_cross_entropy_with_logits(fake, zeros)).backward()
    judging.step()


JUDGE_AT_FAULT = (cleared_after_the_step, soft_actor, generator_first)


def not_detached(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    acting.zero_grad()
    judging.zero_grad()
    state = seen(step)
    ones, zeros = torch.ones(NUM, 1), torch.zeros(NUM, 1)
    real = F.binary_cross_entropy_with_logits(value(judges, state, state[:, :2]), ones)
    fake = value(judges, state, acts(state))
    (real + F.binary_cross_entropy_with_logits(fake, zeros)).backward()
    judging.step()
    F.binary_cross_entropy_with_logits(value(judges, state, acts(state)), ones).backward()
    acting.step()


def two_backwards_of_the_discriminator(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    """As in the DCGAN tutorial, but for `detach`, and for what clears the generator."""
    state = seen(step)
    judging.zero_grad()
    F.softplus(-value(judges, state, state[:, :2])).mean().backward()
    F.softplus(value(judges, state, acts(state))).mean().backward()
    judging.step()
    F.softplus(-value(judges, state, acts(state))).mean().backward()
    acting.step()
    acting.zero_grad()


JUDGED_AT_FAULT = (not_detached, two_backwards_of_the_discriminator)


def cleared_before_each(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    state = seen(step)
    judging.zero_grad()
    regression(judges, state).backward()
    judging.step()
    acting.zero_grad()
    (-value(judges, state, acts(state))).mean().backward()
    acting.step()


def frozen_judge(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    state = seen(step)
    regression(judges, state).backward()
    judging.step()
    judging.zero_grad()
    judges.requires_grad_(False)
    acting.zero_grad()
    (-value(judges, state, acts(state))).mean().backward()
    acting.step()
    judges.requires_grad_(True)


def not_detached_but_cleared(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    state = seen(step)
    judging.zero_grad()
    real = F.relu(1 - value(judges, state, state[:, :2])).mean()
    (real + F.relu(1 + value(judges, state, acts(state))).mean()).backward()
    judging.step()
    acting.zero_grad()
    (-value(judges, state, acts(state))).mean().backward()
    acting.step()


def tutorial(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    state = seen(step)
    judging.zero_grad()
    F.softplus(-value(judges, state, state[:, :2])).mean().backward()
    made = acts(state)
    F.softplus(value(judges, state, made.detach())).mean().backward()
    judging.step()
    acting.zero_grad()
    F.softplus(-value(judges, state, made)).mean().backward()
    acting.step()


def losses_in_turn(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    """A head with an optimizer of its own, and an encoder that learns from two losses."""
    state = seen(step)
    F.mse_loss(value(judges, state, acts(state)), state.sum(1, keepdim=True)).backward()
    judging.step()
    judging.zero_grad()
    F.mse_loss(acts(state), state[:, 2:]).backward()
    acting.step()
    acting.zero_grad()


def decoder_in_turn(
    acts: nn.Module, judges: nn.Module, acting: Optimizer, judging: Optimizer, step: int
) -> None:
    """The decoder learns from what the encoder learns from, and from a second loss."""
    state = seen(step)
    F.mse_loss(value(judges, state, acts(state)), state.sum(1, keepdim=True)).backward()
    acting.step()
    acting.zero_grad()
    regression(judges, state).backward()
    judging.step()
    judging.zero_grad()


HEALTHY = (
    cleared_before_each,
    frozen_judge,
    not_detached_but_cleared,
    tutorial,
    losses_in_turn,
    decoder_in_turn,
)


@pytest.mark.parametrize("turn", JUDGE_AT_FAULT)
def test_a_judge_that_steps_on_the_gradients_of_what_it_judges(turn: Turn, tmp_path: Path) -> None:
    (finding,) = judged(program(turn), tmp_path / "run")
    assert (finding.code, finding.severity, finding.optimizer) == ("SG313", "error", 1)
    assert "steps on gradients that the backward at" in finding.cause.render()
    assert "only pushes the output behind" in finding.cause.render()
    assert finding.excerpt.startswith("judging.zero_grad()\n")


@pytest.mark.parametrize("turn", JUDGED_AT_FAULT)
def test_a_generator_that_steps_on_the_gradients_of_its_judge(turn: Turn, tmp_path: Path) -> None:
    (finding,) = judged(program(turn), tmp_path / "run")
    assert (finding.code, finding.severity, finding.optimizer) == ("SG313", "error", 0)
    assert "because that was not detached" in finding.cause.render()
    assert finding.excerpt.startswith("acting.zero_grad()\n")


@pytest.mark.parametrize("turn", HEALTHY)
def test_gradients_that_are_cleared_or_wanted(turn: Turn, tmp_path: Path) -> None:
    assert judged(program(turn), tmp_path / "run") == ()


ONES = torch.ones(NUM, 1)


def mean(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return out.mean()


def scaled_sum(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return -out.squeeze(1).sum() / 4


def softplus(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return F.softplus(-out).mean()


def one_class(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy(out.sigmoid(), ONES)


def hinge(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return (1 - out).relu().mean() * 0.5


def squares(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return out.square().mean()


def wasserstein(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return (out - other).mean()


def weighted(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return (out * x[:, :1]).mean()


def two_classes(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(out, (x[:, :1] > 0).float())


def held(out: Tensor, other: Tensor, x: Tensor) -> Tensor:
    return out.mean() + out.square().mean()


def num_pushed(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> int:
    torch.manual_seed(0)
    model, x = net(4, 1), seen(0)
    return len(list(pushed(LossGraph([loss(model(x), model(x + 1), x).grad_fn]))))


@pytest.mark.parametrize("loss", [mean, scaled_sum, softplus, one_class, hinge])
def test_what_only_pushes_an_output(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    assert num_pushed(loss) == 1


@pytest.mark.parametrize("loss", [squares, wasserstein, weighted, two_classes, held])
def test_what_a_network_could_be_trained_with(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    assert num_pushed(loss) == 0
