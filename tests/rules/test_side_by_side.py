"""Networks side by side are chains of their own: depth follows the graph of the loss, not the
order in which layers are made.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import seismograd
from seismograd.analysis.profile_layers import chains_of
from seismograd.schema import Finding, Optimizer, Parameter
from tests.capture.watched import watched
from tests.rules.cutting import result
from tests.rules.made import chain
from tests.synthetic import block, make_parameters

WIDTH = 8


def mlp(depth: int, gain: float = 1.0, outputs: int = WIDTH) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        layer = nn.Linear(WIDTH, outputs if number == depth - 1 else WIDTH)
        nn.init.orthogonal_(layer.weight, gain)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class ActorCritic(nn.Module):
    """As PPO's: both get the same observation, the loss is one."""

    def __init__(self, depth: int = 3, actor_gain: float = 1.4, critic_gain: float = 1.4) -> None:
        super().__init__()
        self.critic, self.actor = mlp(depth, critic_gain, 2), mlp(depth, actor_gain, 4)
        nn.init.orthogonal_(self.actor[-1].weight, 0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return (
            -F.log_softmax(self.actor(x), dim=1)[:, 0].mean()
            + 0.5 * (self.critic(x) - 3).square().mean()
        )


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items, self.top = mlp(4), mlp(3), mlp(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.users(x) * self.items(x)).square().mean()


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one, self.other = mlp(3), mlp(2), mlp(2)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.trunk(x)
        return self.one(shared).square().mean() + (self.other(shared) - 1).square().mean()


class Residual(nn.Module):
    """Blocks of two convolutions each, the second with a convolution beside it that makes the
    sizes fit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(n, m, 3, padding=1),
                nn.BatchNorm2d(m),
                nn.ReLU(),
                nn.Conv2d(m, m, 3, padding=1),
            )
            for n, m in ((4, 4), (4, 8))
        )
        self.fit = nn.Conv2d(4, 8, 1)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.reshape(-1, 1, 2, 4))
        h = torch.relu(h + self.blocks[0](h))
        h = torch.relu(self.fit(h) + self.blocks[1](h))
        return self.last(h.mean((2, 3))).square().mean()


class Alone(nn.Module):
    """The loss of one chain."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).square().mean()


def transformer() -> nn.Module:
    return Alone(
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True),
            2,
            enable_nested_tensor=False,
        )
    )


def weight_normed() -> nn.Module:
    net = mlp(4)
    for layer in net[::2]:
        parametrizations.weight_norm(layer)  # type: ignore[no-untyped-call]
    return Alone(net)


def spectral_normed() -> nn.Module:
    net = mlp(4)
    for layer in net[::2]:
        parametrizations.spectral_norm(layer)
    return Alone(net)


def train_on_one_loss(model: nn.Module, num_steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(num_steps):
        x = torch.randn(16, WIDTH) if not isinstance(model, Alone) else torch.randn(16, 3, WIDTH)
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()


def parameters_of(make: Callable[[], nn.Module]) -> tuple[Parameter, ...]:
    torch.manual_seed(0)
    gc.collect()
    with watched() as heard:
        train_on_one_loss(make())
    return heard.rows[-1].parameters


def chains(parameters: tuple[Parameter, ...]) -> list[set[str]]:
    """The first part of the names in each chain."""
    return [{name.split(".")[0] for name in layers.names} for layers in chains_of(parameters)]


@pytest.mark.parametrize(
    ("make", "expected", "lengths"),
    [
        (ActorCritic, [{"critic"}, {"actor"}], [3, 3]),
        (TwoTowers, [{"users", "top"}, {"items"}], [6, 3]),
        (TwoHeads, [{"trunk", "one"}, {"other"}], [5, 2]),
        (Residual, [{"first", "blocks", "fit", "last"}], [7]),
        (transformer, [{"net"}], [8]),
        (weight_normed, [{"net"}], None),
        (spectral_normed, [{"net"}], [4]),
    ],
)
def test_a_chain_is_what_lies_on_one_path(
    make: Any, expected: list[set[str]], lengths: list[int] | None
) -> None:
    parameters = parameters_of(make)
    assert sorted(chains(parameters), key=sorted) == sorted(expected, key=sorted)
    if lengths is not None:
        assert [len(layers) for layers in chains_of(parameters)] == lengths


def test_losses_that_are_backpropagated_apart_show_no_path_between_their_networks() -> None:
    torch.manual_seed(0)
    model = ActorCritic()
    with watched() as heard:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            model.actor(torch.randn(16, WIDTH)).square().mean().backward()
            model.critic(torch.randn(16, WIDTH)).square().mean().backward()
            optimizer.step()
    assert [len(layers) for layers in chains_of(heard.rows[-1].parameters)] == [3, 3]


def test_the_generator_and_the_discriminator_behind_it_are_one_path() -> None:
    torch.manual_seed(0)
    generator, discriminator = mlp(3), mlp(3, outputs=2)
    with watched() as heard:
        optimizers = [
            torch.optim.SGD(net.parameters(), lr=1e-3) for net in (generator, discriminator)
        ]
        for _ in range(3):
            for optimizer, fake in zip(
                optimizers, (generator, lambda z: generator(z).detach()), strict=True
            ):
                optimizer.zero_grad()
                discriminator(fake(torch.randn(16, WIDTH))).square().mean().backward()
                optimizer.step()
    assert [len(layers) for layers in chains_of(heard.rows[-1].parameters)] == [6]


def findings_of(model: nn.Module, path: Path, num_steps: int = 80) -> dict[str, Finding]:
    with seismograd.watch(model, out=path) as session:
        train_on_one_loss(model, num_steps)
    return {each.code: each for each in session.findings}


def test_an_actor_and_a_critic_of_other_sizes_are_no_chain_that_vanishes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ActorCritic(depth=3, actor_gain=0.5, critic_gain=4.0)
    assert "SG101" not in findings_of(model, tmp_path / "run")


def test_what_vanishes_in_one_of_two_networks_is_found_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ActorCritic(depth=9)
    model.actor = mlp(10, 1.2, 4)
    for layer in model.critic[::2]:
        nn.init.orthogonal_(layer.weight, 0.15)  # type: ignore[arg-type]
    found = findings_of(model, tmp_path / "run")["SG101"]
    assert found.parameters
    assert all(name.startswith("critic.") for name in found.parameters)


@pytest.mark.parametrize("exploding", [0, 1])
def test_what_explodes_in_one_of_two_networks_is_found_there(exploding: int) -> None:
    """Their layers come in turn, so that no line fits both together."""
    made = [
        chain(8, 4.0 if branch == exploding else 1.0, steps=12, seed=branch) for branch in (0, 1)
    ]
    names = [
        f"{'ab'[branch]}.{layer}.{part}"
        for layer in range(8)
        for branch in (0, 1)
        for part in ("weight", "bias")
    ]
    norms = np.stack([each.reshape(12, 8, 2) for each in made], axis=2).reshape(12, 32)
    parameters = [
        replace(each, branch="ab".index(each.name[0])) for each in make_parameters(names=names)
    ]
    findings, _ = result(
        [
            block(
                norms,
                parameters=parameters,
                lr=1e-9,
                optimizers=(Optimizer(0, "Adam", "optimizer"),),
            )
        ]
    )
    found = next(each for each in findings if each.code == "SG102")
    assert all(name.startswith("ab"[exploding]) for name in found.parameters)
