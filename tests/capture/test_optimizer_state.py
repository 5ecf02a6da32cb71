"""What optimizers remember is measured in sampled steps, and only there, as torch has it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import seismograd
from seismograd.capture.probes.optimizer_state import OptimizerStateProbe
from seismograd.schema import SampleBatch, SampleKind
from tests.capture.test_guard import batches, make, same

STATE = SampleKind.OPTIMIZER_STATE


def train(model: nn.Module, optimizer: Any, num: int = 25) -> list[list[torch.Tensor]]:
    weights: list[list[torch.Tensor]] = []
    for x in batches(num):
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        weights.append([p.detach().clone() for p in model.parameters()])
    return weights


def watched(
    tmp_path: Path, model: nn.Module, optimizer: Any, num: int = 25, **more: Any
) -> seismograd.Run:
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True, **more):
        train(model, optimizer, num)
    run = seismograd.open_run(tmp_path / "run")
    assert not [note for note in run.notes if note.kind == "failure"]
    return run


def by_hand(optimizer: Any, gradients: dict[Any, torch.Tensor]) -> dict[str, list[float]]:
    """The numbers of Adam's state, in Python's own floats."""
    found: dict[str, list[float]] = {"gradient_to_state": [], "momentum_to_root": []}
    group = optimizer.param_groups[0]
    for p in group["params"]:
        state = optimizer.state[p]
        t = float(state["step"])
        scalars = zip(
            gradients[p].flatten().tolist(),
            state["exp_avg"].flatten().tolist(),
            state["exp_avg_sq"].flatten().tolist(),
            strict=True,
        )
        ratios, steps = [], []
        for g, m, v in scalars:
            root = math.sqrt(v / (1 - group["betas"][1] ** t))
            ratios.append((g / root) ** 2)
            steps.append((m / (1 - group["betas"][0] ** t) / root) ** 2)
        found["gradient_to_state"].append(math.sqrt(sum(ratios) / len(ratios)))
        found["momentum_to_root"].append(math.sqrt(sum(steps) / len(steps)))
    return found


@pytest.mark.parametrize("settings", [{}, {"fused": True}, {"foreach": True}])
def test_of_adam_the_numbers_are_those_by_hand(tmp_path: Path, settings: dict[str, Any]) -> None:
    model, optimizer = make(torch.optim.Adam, lr=0.01, **settings)
    expected: dict[str, list[float]] = {}
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        for step, x in enumerate(batches(11)):
            optimizer.zero_grad()
            (model(x) - 1).square().mean().backward()
            if step == 10:
                gradients = {p: p.grad.clone() for p in model.parameters() if p.grad is not None}
                expected = by_hand(optimizer, gradients)
            optimizer.step()
    samples = seismograd.open_run(tmp_path / "run").sampled(STATE)
    assert samples.steps.tolist() == [10]  # at the first step there is no state yet
    batch = samples[0]
    assert [each.name for each in batch.subjects] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    for name, numbers in expected.items():
        np.testing.assert_allclose(batch.column(name), numbers, rtol=1e-4)
    assert batch.column("age").tolist() == [10.0] * 4
    assert batch.column("below_eps").tolist() == [0.0] * 4
    assert not batch.was_measured("newton_schulz_norm").any()
    assert not batch.was_measured("momentum_to_gradient").any()


def test_of_momentum_it_is_the_ratio_to_the_gradient(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=1e-9, momentum=0.9)
    x = batches(1)[0]
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        for _ in range(11):  # the same gradient each time: the sum of its powers
            optimizer.zero_grad()
            (model(x) - 1).square().mean().backward()
            optimizer.step()
    batch = seismograd.open_run(tmp_path / "run").sampled(STATE).latest()
    assert batch is not None
    # before the 11th step: ten terms
    expected = (1 - 0.9**10) / 0.1
    np.testing.assert_allclose(batch.column("momentum_to_gradient"), expected, rtol=1e-4)
    assert not batch.was_measured("gradient_to_state").any()


@pytest.mark.parametrize(
    ("kind", "name"), [(torch.optim.RMSprop, "square_avg"), (torch.optim.Adagrad, "sum")]
)
def test_others_are_found_by_the_names_of_their_states(
    tmp_path: Path, kind: type[torch.optim.Optimizer], name: str
) -> None:
    model, optimizer = make(kind, lr=1e-3)
    expected: list[float] = []
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        for step, x in enumerate(batches(11)):
            optimizer.zero_grad()
            (model(x) - 1).square().mean().backward()
            for p in model.parameters() if step == 10 else ():
                assert p.grad is not None
                ratio = p.grad.double().square() / optimizer.state[p][name].double()
                expected.append(float(ratio.mean().sqrt()))
            optimizer.step()
    batch = seismograd.open_run(tmp_path / "run").sampled(STATE).latest()
    assert batch is not None
    np.testing.assert_allclose(batch.column("gradient_to_state"), expected, rtol=1e-4)
    assert not batch.was_measured("momentum_to_root").any()


def test_plain_sgd_remembers_nothing(tmp_path: Path) -> None:
    run = watched(tmp_path, *make(torch.optim.SGD, lr=0.1))
    assert len(run.sampled(STATE)) == 0


def test_small_gradients_are_below_eps(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.Adam, lr=1e-3, eps=10.0)
    batch = watched(tmp_path, model, optimizer).sampled(STATE).latest()
    assert batch is not None
    assert batch.column("below_eps").min() > 0.5


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("nesterov", [True, False])
def test_of_muon_it_is_the_norm_that_is_orthogonalised(
    tmp_path: Path, nesterov: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch.optim._muon as muon

    given: list[float] = []
    original = muon._zeropower_via_newtonschulz

    def listening(update: torch.Tensor, *args: Any) -> torch.Tensor:
        given.append(float(update.double().norm()))
        return original(update, *args)

    monkeypatch.setattr(muon, "_zeropower_via_newtonschulz", listening)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 1, bias=False))
    optimizer = torch.optim.Muon(model.parameters(), lr=0.01, nesterov=nesterov)
    batch = watched(tmp_path, model, optimizer, 11).sampled(STATE).latest()
    assert batch is not None
    assert batch.step == 10
    np.testing.assert_allclose(batch.column("newton_schulz_norm"), given[-2:], rtol=1e-5)


def test_the_age_goes_on_after_a_resume(tmp_path: Path) -> None:
    _, first = make(torch.optim.AdamW, lr=0.01)
    model, optimizer = make(torch.optim.AdamW, lr=0.01)
    train(model, optimizer, 7)
    again, resumed = make(torch.optim.AdamW, lr=0.01)
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    del first
    samples = watched(tmp_path, again, resumed, 11).sampled(STATE)
    assert [batch.column("age").tolist() for batch in samples] == [[17.0] * 4]


def test_a_closure_is_measured_when_it_has_been_evaluated(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.Adam, lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        for x in batches(11):

            def closure(x: torch.Tensor = x) -> torch.Tensor:
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
    samples = seismograd.open_run(tmp_path / "run").sampled(STATE)
    assert [batch.column("age")[0] for batch in samples] == [11.0]


def test_at_level_light_nothing_is_looked_at(tmp_path: Path) -> None:
    run = watched(tmp_path, *make(torch.optim.Adam, lr=0.01), level="light")
    assert len(run.sampled(STATE)) == 0


def test_the_training_and_its_state_have_the_same_bits(tmp_path: Path) -> None:
    theirs = train(*make(torch.optim.Adam, lr=0.01, amsgrad=True))
    model, optimizer = make(torch.optim.Adam, lr=0.01, amsgrad=True)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        ours = train(model, optimizer)
    assert same(ours, theirs)


def test_only_sampled_steps_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    original = OptimizerStateProbe.look

    def look(self: OptimizerStateProbe, window: Any, *args: Any, **kwargs: Any) -> None:
        looked.append(window.num_steps)
        original(self, window, *args, **kwargs)

    monkeypatch.setattr(OptimizerStateProbe, "look", look)
    watched(tmp_path, *make(torch.optim.Adam, lr=0.01), 230)
    assert looked == [10, 110, 210]


def test_of_many_parameters_all_have_their_turn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(20)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        for x in batches(420):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    samples = seismograd.open_run(tmp_path / "run").sampled(STATE)
    seen = {subject.name for batch in samples for subject in batch.subjects}
    assert all(len(batch) <= 16 for batch in samples)
    assert len(seen) == 40


def test_states_of_another_shape_or_kind_are_passed_over() -> None:
    from seismograd.capture.probes.parameter_state import numbers_of

    p = nn.Parameter(torch.ones(3, 4))
    p.grad = torch.ones(3, 4)
    group = {"params": [p], "betas": (0.9, 0.999), "eps": 1e-8}
    states: list[dict[str, Any]] = [
        {"exp_avg_sq_row": torch.ones(3), "exp_avg_sq_col": torch.ones(4)},  # Adafactor
        {"exp_avg_sq": torch.ones(2, 2)},
        {"exp_avg_sq": torch.ones(3, 4, dtype=torch.uint8)},  # quantized
        {"exp_avg_sq": None, "momentum_buffer": None},
        {"momentum_buffer": [1.0]},
    ]
    for state in states:
        assert numbers_of(p, group, state, turn=0, scale=1.0, is_made=False) == {}


def test_what_has_nothing_to_be_compared_with_is_not_measured() -> None:
    from seismograd.capture.probes.optimizer_state import (
        _batch,
        _MeasuredState,
        _Pending,
        _together,
    )
    from seismograd.capture.probes.parameter_state import numbers_of
    from seismograd.schema import SampleSubject

    p = nn.Parameter(torch.ones(4))
    p.grad = torch.zeros(4)
    state = {"exp_avg_sq": torch.zeros(4), "exp_avg": torch.zeros(4), "momentum_buffer": p.data}
    group = {"params": [p], "betas": (0.9, 0.999), "eps": 1e-8}
    found = numbers_of(p, group, state, turn=0, scale=1.0, is_made=False)
    measured = _MeasuredState(SampleSubject("p"), tuple(found), _together(found))
    batch: SampleBatch = _batch(_Pending(0, 0, [measured]))
    for name in ("gradient_to_state", "momentum_to_root", "momentum_to_gradient"):
        assert not batch.was_measured(name).any()
    assert batch.column("below_eps").tolist() == [1.0]


def test_a_gradient_that_is_not_finite_shows() -> None:
    from seismograd.capture.probes.parameter_state import numbers_of

    p = nn.Parameter(torch.ones(4))
    p.grad = torch.tensor([1.0, math.nan, 1.0, 1.0])
    found = numbers_of(
        p, {"eps": 1e-8}, {"exp_avg_sq": torch.ones(4)}, turn=0, scale=1.0, is_made=False
    )
    assert math.isnan(float(found["gradient_to_state"]))


def test_show_has_it_with_the_parameter(tmp_path: Path) -> None:
    import json

    from rich.console import Console

    from seismograd.record.parameter_selection import find_parameters
    from seismograd.views.formats import step_json, step_table
    from seismograd.views.step import find_row, read_step

    run = watched(tmp_path, *make(torch.optim.Adam, lr=0.01))
    step = read_step(
        run, find_row(run, 24), find_parameters(run.parameters, ["0.*"]), with_states=True
    )
    assert [(each.parameter, each.step) for each in step.states] == [
        ("0.weight", 10),
        ("0.bias", 10),
    ]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(step_table.render(step))
    assert "What the optimizer remembered:" in captured.get()
    assert "g/√v" in captured.get()
    (first, _) = json.loads(step_json.render(step))["optimizer_states"]
    assert (first["name"], first["step"], first["age"]) == ("0.weight", 10, 10.0)
    earlier = read_step(
        run, find_row(run, 5), find_parameters(run.parameters, ["0.*"]), with_states=True
    )
    assert earlier.states == ()
