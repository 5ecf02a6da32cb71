"""Several losses: one backward as usual, and their gradients compared beside it without a trace."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seismograd
from tests.control.models import gradients


class TwoHeads(nn.Module):
    """A trunk, and a head for each of two tasks; dropout, so that random numbers matter."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 6)
        self.drop = nn.Dropout(0.2)
        self.first = nn.Linear(6, 3)
        self.second = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.drop(torch.tanh(self.trunk(x)))
        return self.first(hidden), self.second(hidden)


def model_of() -> TwoHeads:
    torch.manual_seed(3)
    return TwoHeads()


def losses_of(model: TwoHeads, step: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    first, second = model(torch.randn(8, 4, generator=generator))
    return F.cross_entropy(first, torch.arange(8) % 3), second.square().mean()


def apart(model: TwoHeads) -> list[dict[str, Tensor]]:
    """The gradient of each loss, by a backward of its own."""
    found = []
    for position in range(2):
        torch.manual_seed(5)
        losses_of(model)[position].backward()
        found.append(
            {
                name: p.grad.double().flatten()
                for name, p in model.named_parameters()
                if p.grad is not None
            }
        )
        model.zero_grad()
    return found


def test_a_comparison_is_that_of_backwards_apart() -> None:
    model = model_of()
    expected = apart(model)
    torch.manual_seed(5)
    one, other = losses_of(model)
    compared = seismograd.losses(ctc=one, aux=other).compare()
    assert compared.losses == ("ctc", "aux")
    assert set(compared.parameters) == {name for name, _ in model.named_parameters()}
    for position, name in enumerate(compared.parameters):
        for number, gradient in enumerate(expected):
            assert compared.reached[number, position] == (name in gradient)
            assert compared.norms[number, position] == pytest.approx(
                gradient[name].norm().item() if name in gradient else 0.0, rel=1e-5
            )
        if all(name in gradient for gradient in expected):
            cosine = F.cosine_similarity(expected[0][name], expected[1][name], dim=0).item()
            assert compared.cosines[0, 1, position] == pytest.approx(cosine, abs=1e-6)
        else:
            assert math.isnan(compared.cosines[0, 1, position])
    shared = [
        torch.cat([gradient[name] for name in ("trunk.weight", "trunk.bias")])
        for gradient in expected
    ]
    assert compared.total_cosines[0, 1] == pytest.approx(
        F.cosine_similarity(shared[0], shared[1], dim=0).item(), abs=1e-6
    )
    assert np.diag(compared.total_cosines).tolist() == pytest.approx([1, 1])
    for number, gradient in enumerate(expected):
        assert compared.total_norms[number] == pytest.approx(
            torch.cat(list(gradient.values())).norm().item(), rel=1e-5
        )


def test_the_backward_is_that_of_the_sum_and_the_comparison_leaves_no_trace() -> None:
    ours, theirs = model_of(), model_of()
    torch.manual_seed(5)
    one, other = losses_of(ours)
    both = seismograd.losses(ctc=one, aux=other)
    both.compare()
    assert both.backward() is None  # no session
    torch.manual_seed(5)
    one, other = losses_of(theirs)
    (one + other).backward()
    assert all(torch.equal(a, b) for a, b in zip(gradients(ours), gradients(theirs), strict=True))


def train(out: Path | None, steps: int = 25) -> tuple[TwoHeads, list[bool], torch.Tensor]:
    model = model_of()
    optimizer = torch.optim.Adam(model.parameters())
    session = None if out is None else seismograd.watch(model, optimizer, out=out)
    compared = []
    for step in range(steps):
        one, other = losses_of(model, step)
        compared.append(seismograd.losses(session, ctc=one, aux=other).backward() is not None)
        optimizer.step()
        optimizer.zero_grad()
    if session is not None:
        session.close()
    return model, compared, torch.get_rng_state()


def test_a_session_records_the_pairs_of_some_steps_and_the_training_is_the_same(
    tmp_path: Path,
) -> None:
    watched, compared, random_watched = train(tmp_path / "run")
    alone, never, random_alone = train(None)
    assert not any(never)
    assert all(
        torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True)
    )
    assert torch.equal(random_watched, random_alone)
    assert [step for step, was in enumerate(compared) if was] == [*range(11), 20]
    run = seismograd.open_run(tmp_path / "run")
    assert run.notes == ()
    assert sorted(set(run.pairs["iteration"].tolist())) == [
        step for step, was in enumerate(compared) if was
    ]
    assert {
        run.sites[index].label for name in ("first", "second") for index in run.pairs[name]
    } == {"ctc", "aux"}
    names = [p.name for p in run.parameters]
    at_first = run.pairs[run.pairs["iteration"] == 0]
    assert sorted(at_first["parameter"].tolist()) == sorted(
        [-1, names.index("trunk.weight"), names.index("trunk.bias")]
    )
    torch.manual_seed(3)
    model = TwoHeads()  # as the training had it at its first step
    parts = [
        dict(zip((n for n, _ in model.named_parameters()), found, strict=True))
        for found in _apart_at(model, torch.get_rng_state())
    ]
    (whole,) = at_first[at_first["parameter"] == -1]
    shared = [
        torch.cat([part[name].double().flatten() for name in ("trunk.weight", "trunk.bias")])
        for part in parts
    ]
    assert whole["first_norm"] == pytest.approx(shared[0].norm().item(), rel=1e-5)
    assert whole["second_norm"] == pytest.approx(shared[1].norm().item(), rel=1e-5)
    assert whole["cosine"] == pytest.approx(
        F.cosine_similarity(shared[0], shared[1], dim=0).item(), abs=1e-6
    )


def _apart_at(model: TwoHeads, random: torch.Tensor) -> list[tuple[Tensor, ...]]:
    found = []
    for position in range(2):
        torch.set_rng_state(random)
        found.append(
            torch.autograd.grad(
                losses_of(model)[position], list(model.parameters()), allow_unused=True
            )
        )
    return found


def test_with_a_grad_scaler_the_sum_is_scaled_and_the_comparison_is_not(tmp_path: Path) -> None:
    model = model_of().eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with seismograd.watch(model, optimizer, out=tmp_path / "run") as session:
        both = seismograd.losses(session, **dict(zip(("a", "b"), losses_of(model), strict=True)))
        plain = both.compare()
        scaled = both.backward(scaler=scaler)
        assert scaled is not None
        np.testing.assert_allclose(scaled.products, plain.products, rtol=1e-5, atol=1e-12)
        scaler.step(optimizer)
        scaler.update()
    assert seismograd.open_run(tmp_path / "run").steps["scale"].tolist() == [1024.0]


def test_a_loss_that_is_nan_has_no_cosine() -> None:
    one, other = losses_of(model_of())
    compared = seismograd.losses(a=one * math.nan, b=other).compare()
    assert math.isnan(compared.total_norms[0])
    assert not math.isnan(compared.total_norms[1])
    assert math.isnan(compared.total_cosines[0, 1])


def test_what_cannot_be_compared_stops_no_training(tmp_path: Path) -> None:
    """Reentrant checkpointing refuses autograd.grad."""
    from torch.utils.checkpoint import checkpoint

    layer = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    with seismograd.watch(layer, optimizer, out=tmp_path / "run") as session:
        y = checkpoint(layer, torch.ones(2, 3, requires_grad=True), use_reentrant=True)
        assert seismograd.losses(session, a=y.sum(), b=y.square().sum()).backward() is None
        assert layer.weight.grad is not None
        optimizer.step()
    run = seismograd.open_run(tmp_path / "run")
    assert len(run.steps) == 1
    assert len(run.pairs) == 0


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"a": torch.ones((), requires_grad=True)},
        {"a": torch.ones(2, requires_grad=True), "b": torch.ones(())},
    ],
)
def test_what_are_no_losses_is_refused(named: dict[str, Tensor]) -> None:
    with pytest.raises(seismograd.SeismogradError):
        seismograd.losses(None, **named)


def test_three_losses_have_three_pairs() -> None:
    one, other = losses_of(model_of())
    compared = seismograd.losses(a=one, b=other, c=-one).compare()
    assert compared.total_cosines[0, 2] == pytest.approx(-1)
    assert all(
        compared.total_cosines[i, j] == compared.total_cosines[j, i]
        for i, j in combinations(range(3), 2)
    )


def test_torchjd_makes_the_gradient_where_it_is_asked_to() -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    model = model_of()
    expected = apart(model)
    torch.manual_seed(5)
    one, other = losses_of(model)
    seismograd.losses(ctc=one, aux=other).backward(aggregator=aggregation.Mean())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        mean = sum(gradient.get(name, torch.zeros(parameter.numel())) for gradient in expected) / 2
        torch.testing.assert_close(
            parameter.grad.double().flatten(), mean, rtol=1e-5, atol=1e-8, check_dtype=False
        )


def test_without_torchjd_an_aggregator_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    one, other = losses_of(model_of())
    with pytest.raises(seismograd.SeismogradError) as raised:
        seismograd.losses(ctc=one, aux=other).backward(aggregator=object())
    assert "pip install torchjd" in raised.value.line()
