"""`seismograd bench` measures beside a model of ours or the user's, and says so in a table or in
JSON.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from seismograd.bench import timing
from seismograd.bench.contenders import Contender, WatchedTraining, contenders
from seismograd.bench.cost_table import table
from seismograd.bench.models import MODELS, Workload, user_model
from seismograd.bench.timing import STEPS, Cost, Result, Spread, measure
from seismograd.capture.probes.update_probe import NUM_DENSE
from seismograd.errors import SeismogradError
from seismograd.i18n import use_language
from seismograd.record.reader import open_run
from seismograd.settings.levels import LEVELS
from tests.cli.test_commands import seismograd
from tests.views.golden import rendered

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

TINY = """
import torch

def tiny():
    model = torch.nn.Linear(3, 2)
    return model, lambda: model(torch.ones(4, 3)).square().mean()

def wrong():
    return 3

def without_gradient():
    model = torch.nn.Linear(3, 2)
    return model, lambda: model(torch.ones(4, 3)).detach().mean()

def without_optimizer():
    model = torch.nn.Linear(3, 2)
    return model, lambda: model(torch.ones(4, 3)).mean(), 0.1

def failing():
    model = torch.nn.Linear(3, 2)
    return model, lambda: model(torch.ones(4, 7)).mean()
"""


def tiny() -> Workload:
    model = torch.nn.Linear(3, 2)
    return Workload(
        "tiny",
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        lambda: model(torch.ones(4, 3)).square().mean(),
    )


def test_all_contenders_are_measured_in_turn_beside_the_bare_step() -> None:
    ticks: list[tuple[int, int]] = []
    result = measure(tiny(), True, lambda _, done, of: ticks.append((done, of)))
    names = [cost.name for cost in result.costs]
    assert names[: 1 + len(LEVELS)] == ["bare", *(f"seismograd, {level}" for level in LEVELS)]
    others = {"norm().item() of each", "_foreach_norm", "clip_grad_norm_", "detect_anomaly"}
    assert others <= set(names)
    assert not torch.is_anomaly_enabled()
    assert all(
        0 < cost.step_s.low <= cost.step_s.median <= cost.step_s.high for cost in result.costs
    )
    assert result.costs[0].share == Spread(0.0, 0.0, 0.0)
    assert [done for done, _ in ticks] == list(range(1, ticks[0][1] + 1))


def test_ours_records_in_its_own_turns_only(tmp_path: Path) -> None:
    workload = tiny()
    ours = WatchedTraining(workload, "normal", tmp_path)
    for listening in (True, False, True):
        if listening:
            ours.begin()
        for _ in range(STEPS):
            workload.optimizer.zero_grad()
            workload.loss().backward()
            workload.optimizer.step()
        if listening:
            ours.end()
    ours.close()
    assert len(open_run(tmp_path / "normal").steps) == 2 * STEPS


@pytest.mark.parametrize(("limit_s", "num_warm"), [(math.inf, NUM_DENSE), (0.0, STEPS)])
def test_ours_is_timed_behind_the_steps_that_cost_more(
    limit_s: float, num_warm: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()
    before: dict[str, int] = {}
    step: Any = timing._step  # pyright: ignore[reportPrivateUsage]
    turn: Any = timing._turn  # pyright: ignore[reportPrivateUsage]

    def counted(workload: Workload, contender: Contender) -> None:
        made[contender.name] += 1
        step(workload, contender)

    def noted(workload: Workload, contender: Contender) -> object:
        before.setdefault(contender.name, made[contender.name])
        return turn(workload, contender)

    monkeypatch.setattr(timing, "_step", counted)
    monkeypatch.setattr(timing, "_turn", noted)
    monkeypatch.setattr(timing, "WARM_S", limit_s)
    measure(tiny(), True, lambda _, __, ___: None)
    assert before["bare"] == STEPS
    assert {before[f"seismograd, {level}"] for level in LEVELS} == {num_warm}


def test_what_cannot_begin_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("seismograd.bench.contenders.WatchedTraining.__init__", broken)
    with ExitStack() as closing:
        found, failed = contenders(tiny(), closing)
    assert found[0].name == "bare"
    assert failed == ["OSError: no room"] * len(LEVELS)


@pytest.mark.parametrize(
    ("name", "tensors", "millions"), [("mlp", 4, 0.2), ("many", 1000, 2.1), ("gpt", 100, 17.4)]
)
def test_the_models_have_the_sizes_that_are_said(name: str, tensors: int, millions: float) -> None:
    workload = MODELS[name]()
    assert workload.num_tensors == tensors
    assert workload.num_scalars / 1e6 == pytest.approx(millions, abs=0.05)
    if name != "many":
        workload.loss().backward()
        assert all(p.grad is not None for p in workload.model.parameters())


OF_THE_USERS = ("wrong", "without_gradient", "without_optimizer", "failing")


@pytest.mark.parametrize(
    "target",
    [
        "nothing",
        "no_such_module:f",
        ".:f",
        "math:no_such_function",
        "math:pi",
        "os:getcwd",
        "json:dumps",
        "half_written:f",
        *(f"models_of_mine:{name}" for name in OF_THE_USERS),
    ],
)
def test_a_model_that_is_none_is_refused_with_a_mend(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_written.py").write_text("def f(:\n")
    (tmp_path / "models_of_mine.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeismogradError) as raised:
        user_model(target)
    assert target in raised.value.line()
    assert raised.value.hint is not None
    assert len(raised.value.line().splitlines()) == 1


def test_the_command_answers_for_a_model_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    done = seismograd("bench", "--model", "mine:tiny", "--quick", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert [model["model"] for model in told["models"]] == ["mine:tiny"]
    assert told["models"][0]["costs"][0]["name"] == "bare"
    assert list(tmp_path.glob("runs*")) == []
    refused = seismograd("bench", "--model", "json:dumps", "--quick")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


def test_the_table_says_what_is_over_the_bare_step() -> None:
    spread = Spread(0.001, 0.002, 0.003)
    costs = (
        Cost("bare", spread, Spread(0, 0, 0), Spread(0, 0, 0)),
        Cost("seismograd, normal", spread, Spread(0.01, 0.0234, 0.05), Spread(0.01, 0.02, 0.03)),
    )
    with use_language("en"):
        said = rendered(
            table([Result("mine", 2, 1_500_000, 5, costs, ("OSError: no room",))]), width=100
        )
    assert "mine: 1.5 M scalars in 2 tensors" in said
    assert "seismograd, normal 2.000 +2.3% (+1.0 … +5.0) +2.0% (+1.0 … +3.0)" in " ".join(
        said.split()
    )
    assert "skipped: OSError: no room" in said
