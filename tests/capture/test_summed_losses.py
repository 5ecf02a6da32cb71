"""How the terms of a summed loss compare, against the gradients of each by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.capture.hub import HUB
from seismograd.capture.probes import summed_losses
from seismograd.capture.probes.summed_losses import EARLIEST
from seismograd.control.losses.task_losses import losses
from tests.capture.watched import watched

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 3


class TwoHeads(nn.Module):
    """Two heads on one trunk; what the trunk returns is kept."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.kinds, self.sizes = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.shared = torch.tanh(self.trunk(x))
        return self.kinds(self.shared), self.sizes(self.shared).squeeze(1)


def terms(model: TwoHeads) -> tuple[Tensor, Tensor]:
    logits, sizes = model(X)
    return F.cross_entropy(logits, LABELS), F.mse_loss(sizes, X[:, 0] * 3)


def alone(loss: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(loss, at, retain_graph=True)[0].double().flatten()


Sum = Callable[[Tensor, Tensor, TwoHeads], Tensor]


def trained(
    total: Sum, steps: int = EARLIEST, scale: float = 1.0, often: bool = False
) -> tuple[dict[tuple[int, str, str], tuple[float, float, float]], tuple[Tensor, Tensor]]:
    """What is recorded, by the iteration and the names of the losses; the gradients
    of the last step's terms by themselves.
    """
    with watched(compares_often=often) as kept:
        model = TwoHeads()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
        for _ in range(steps):
            optimizer.zero_grad()
            one, other = terms(model)
            last = alone(one, model.shared), alone(other, model.shared)
            loss = total(one, other, model)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    found = {
        (int(p["iteration"]), kept.sites[p["first"]].label, kept.sites[p["second"]].label): (
            float(p["first_norm"]),
            float(p["second_norm"]),
            float(p["cosine"]),
        )
        for row in kept.rows
        for p in row.pairs
        if p["parameter"] == -1
    }
    return found, last


@pytest.mark.parametrize("scale", [1.0, 1024.0])
@pytest.mark.parametrize("weight", [1.0, 20.0])
def test_they_are_compared_by_what_arrives_where_they_meet(scale: float, weight: float) -> None:
    found, (one, other) = trained(lambda a, b, _: a + weight * b, scale=scale)
    other = other * weight
    cosine = float(one @ other / (one.norm() * other.norm()))
    assert len(found) == 1
    (pair,) = found.values()
    assert pair == pytest.approx((float(one.norm()), float(other.norm()), cosine), rel=1e-5)


@pytest.mark.parametrize(
    "total",
    [
        lambda a, b, _: (a + b) / 4,
        lambda a, b, _: sum([a, b]),
        lambda a, b, _: torch.stack([a, b]).sum(),
        lambda a, b, _: torch.stack([a, b]).mean(),
        lambda a, b, _: -(-a - b),
        lambda a, b, _: 2.0 * (a.unsqueeze(0) + b.view(1)).view(()),
    ],
)
def test_however_the_sum_is_written(total: Sum) -> None:
    found, (one, other) = trained(total)
    ((first, second, cosine),) = found.values()
    assert first / second == pytest.approx(float(one.norm() / other.norm()), rel=1e-5)
    assert math.isfinite(cosine)


def test_a_small_weight_is_small_on_purpose_and_a_large_one_is_not() -> None:
    assert not trained(lambda a, b, _: a + 1e-4 * b)[0]
    assert trained(lambda a, b, _: a + 1e4 * b)[0]
    assert trained(lambda a, b, _: 1e-4 * (a + b))[0]
    assert trained(lambda a, b, _: 0.5 * a + 1e4 * b)[0] == {}


def test_a_penalty_on_the_weights_shares_no_activation() -> None:
    def with_penalty(a: Tensor, _: Tensor, model: TwoHeads) -> Tensor:
        return a + model.trunk.weight.square().sum() + model.trunk.bias.square().sum()

    assert not trained(with_penalty)[0]


def test_another_forward_pass_shares_no_activation() -> None:
    def of_another(a: Tensor, _: Tensor, model: TwoHeads) -> Tensor:
        logits, _ = model(X + 1)
        return a + F.cross_entropy(logits, LABELS)

    assert not trained(of_another)[0]


def test_a_learned_weight_is_not_taken_for_a_number() -> None:
    weight = nn.Parameter(torch.ones(()))
    found, (one, other) = trained(lambda a, b, _: a + weight.exp() * b)
    ((first, second, _),) = found.values()
    assert first / second == pytest.approx(float(one.norm() / (math.e * other.norm())), rel=1e-5)


def test_a_backward_is_compared_now_and_then_or_every_tenth_time() -> None:
    seldom, _ = trained(lambda a, b, _: a + b, steps=40)
    assert [iteration + 1 for iteration, *_ in seldom] == [4, 9, 18, 35]
    often, _ = trained(lambda a, b, _: a + b, steps=40, often=True)
    assert [iteration + 1 for iteration, *_ in often] == [*range(1, 11), 20, 30, 40]


def with_names() -> None:
    model = TwoHeads()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(EARLIEST):
        optimizer.zero_grad()
        logits, sizes = model(X)
        kind_loss = F.cross_entropy(logits, LABELS)
        (kind_loss + 5.0 * F.mse_loss(sizes, X[:, 0])).backward()
        optimizer.step()


def test_the_terms_are_called_as_in_the_script() -> None:
    with watched() as kept:
        with_names()
    labels = {site.label for site in kept.sites} - {""}
    assert labels == {"kind_loss", "F.mse_loss(sizes, X[:, 0])"}


def test_the_gradients_are_the_same_and_nothing_is_kept_of_them() -> None:
    def gradients(listen: bool) -> list[Tensor]:
        model = TwoHeads()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(EARLIEST):
            optimizer.zero_grad()
            one, other = terms(model)
            (one + other).backward()
            optimizer.step()
        if listen:
            assert HUB.listening
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients(listen=False)
    with watched() as kept:
        seen = gradients(listen=True)
        assert kept.session._handlers.backwards.inspection.sums.running is None
    assert sum(len(row.pairs) for row in kept.rows) == 1
    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))


class Counted:
    """As much of a recording as `losses` asks for."""

    num_iterations = 0

    def failed(self, part: str, error: BaseException) -> None:
        raise error


def test_gradients_that_are_too_large_to_keep_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summed_losses, "MAX_BYTES", 2 * 8 * 5 * 4)
    assert trained(lambda a, b, _: a + b)[0]
    monkeypatch.setattr(summed_losses, "MAX_BYTES", 2 * 8 * 5 * 4 - 1)
    assert not trained(lambda a, b, _: a + b)[0]


def test_losses_that_the_script_names_are_not_compared_twice() -> None:
    with watched() as kept:
        model = TwoHeads()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(8):
            optimizer.zero_grad()
            kinds, sizes = terms(model)
            losses(Counted(), kinds=kinds, sizes=sizes).backward()
            optimizer.step()
    assert {site.label for site in kept.sites} - {""} == {"kinds", "sizes"}
    assert all(sum(row.pairs["parameter"] == -1) == 1 for row in kept.rows)
