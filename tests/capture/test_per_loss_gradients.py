"""How the gradients of several losses compare, against a recomputation in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.capture.hub import HUB
from seismograd.schema import AnyArray
from tests.capture.watched import watched


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def losses(net: nn.Sequential) -> tuple[Tensor, Tensor]:
    """The second reaches the first layer only."""
    return F.cross_entropy(net(X), torch.arange(8) % 3), net[0](X).square().mean()


def flat(net: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names = [name for name, _ in net.named_parameters()]
    gradients = torch.autograd.grad(
        loss, list(net.parameters()), allow_unused=True, retain_graph=True
    )
    return {
        name: g.double().flatten()
        for name, g in zip(names, gradients, strict=True)
        if g is not None
    }


def expected(net: nn.Module, one: Tensor, other: Tensor) -> dict[str, tuple[float, float, float]]:
    first, second = flat(net, one), flat(net, other)
    both = [name for name in first if name in second]
    pairs = {name: (first[name], second[name]) for name in both}
    pairs[""] = (torch.cat([first[n] for n in both]), torch.cat([second[n] for n in both]))
    return {
        n: (float(a.norm()), float(b.norm()), float(a @ b / (a.norm() * b.norm())))
        for n, (a, b) in pairs.items()
    }


def recorded(pairs: AnyArray, names: list[str]) -> dict[str, tuple[float, float, float]]:
    return {
        names[p["parameter"]] if p["parameter"] >= 0 else "": (
            p["first_norm"],
            p["second_norm"],
            p["cosine"],
        )
        for p in pairs
    }


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_losses_backpropagated_apart_are_compared_as_if_computed_alone(scale: float) -> None:
    told: list[dict[str, tuple[float, float, float]]] = []
    with watched() as kept:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
        for _ in range(4):
            optimizer.zero_grad()
            one, other = losses(net)
            told.append(expected(net, one, other))
            scaler.scale(one).backward(retain_graph=True)
            scaler.scale(other).backward()
            scaler.step(optimizer)
            scaler.update()
    # that there are two is known after the first window
    assert [len(row.pairs) for row in kept.rows] == [0, 3, 3, 3]
    names = [p.name for p in kept.rows[0].parameters]
    for row, truth in zip(kept.rows[1:], told[1:], strict=True):
        assert set(row.pairs["iteration"]) == {int(row.step["iteration"])}
        lines = {kept.sites[site].line for site in (row.pairs["first"][0], row.pairs["second"][0])}
        assert len(lines) == 2
        found = recorded(row.pairs, names)
        assert set(found) == set(truth)
        for name, numbers in truth.items():
            assert found[name] == pytest.approx(numbers, rel=1e-4, abs=1e-6)


def test_micro_batches_of_one_line_are_not_taken_for_several_losses() -> None:
    with watched() as kept:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            for _ in range(3):
                losses(net)[0].backward()
            optimizer.step()
    assert [len(row.pairs) for row in kept.rows] == [0, 0, 0, 0]


def test_losses_of_one_line_are_told_apart_by_their_turn() -> None:
    with watched() as kept:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            for loss in losses_of_one_forward(net):
                loss.backward(retain_graph=True)
            optimizer.step()
    total = kept.rows[-1].pairs[0]
    assert [kept.sites[total[which]].label.split()[-1] for which in ("first", "second")] == [
        "#1",
        "#2",
    ]
    assert total["cosine"] == pytest.approx(1)


def losses_of_one_forward(net: nn.Sequential) -> tuple[Tensor, Tensor]:
    out = net(X).square().mean()
    return out, 3 * out


def test_a_loss_that_pulls_nowhere_has_no_cosine() -> None:
    with watched() as kept:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            losses(net)[0].backward()
            (0 * losses(net)[0]).backward()
            optimizer.step()
    total = kept.rows[-1].pairs[0]
    assert total["second_norm"] == 0
    assert math.isnan(total["cosine"])


def test_losses_that_the_script_names_are_recorded_under_their_names() -> None:
    with watched() as kept:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        optimizer.zero_grad()
        losses(net)[0].backward()
        products = np.array([[[4.0], [-3.0]], [[-3.0], [9.0]]])  # (L, L, P)
        HUB.compared(["ctc", "aux"], [net[0].weight], products, np.ones((2, 1), bool))
        optimizer.step()
    (total, weight) = kept.rows[0].pairs
    assert [kept.sites[total[which]].label for which in ("first", "second")] == ["ctc", "aux"]
    assert kept.sites[total["first"]].file.endswith("test_per_loss_gradients.py")
    assert (total["first_norm"], total["second_norm"], total["cosine"]) == (2, 3, -0.5)
    assert kept.rows[0].parameters[weight["parameter"]].name == "0.weight"
