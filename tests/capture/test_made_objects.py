"""What the program has made is known without a search through all objects, by the same names."""

from __future__ import annotations

import copy
import gc
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seismograd.capture.hub import HUB
from seismograd.capture.names.discovery import discover_objects
from seismograd.capture.names.made_objects import MADE, MadeObjects, keeps_out_of_sight
from seismograd.capture.names.object_search import instances
from seismograd.capture.names.paced_discovery import PacedDiscovery
from seismograd.measure.backend_selection import make_backend
from tests.capture.sessions import make_session

KINDS = (nn.Module, torch.optim.Optimizer)


@pytest.fixture
def made() -> Iterator[MadeObjects]:
    """What is made while a session is open, as if torch had been imported under it."""
    session = make_session(make_backend(), lambda _: None, lambda _: None)
    gc.collect()
    gc.unfreeze()  # what no search lists, is not known to be all there is
    HUB.attach(session)
    yield MADE
    HUB.detach(session)
    session.finish()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.layers = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Sequential(nn.Linear(4, 1))})
        self.head: nn.Module | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers["b"](self.layers["a"](x) * self.scale)


def loaded() -> object:
    buffer = io.BytesIO()
    torch.save(Net(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def stepped() -> object:
    net = Net()
    return net, copy.deepcopy(torch.optim.AdamW(net.parameters()))


@pytest.mark.parametrize(
    "make",
    [
        Net,
        loaded,
        stepped,
        lambda: copy.deepcopy(Net()),
        lambda: copy.copy(Net()),
        lambda: nn.TransformerEncoderLayer(8, 2, 8),
        lambda: nn.LSTM(4, 4, 2),
        lambda: nn.LazyLinear(3),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
        lambda: torch.optim.swa_utils.AveragedModel(Net()),
        lambda: nn.DataParallel(Net()),
    ],
)
def test_all_that_holds_parameters_or_modules_is_remembered(
    make: Callable[[], object], made: MadeObjects
) -> None:
    before = set(map(id, instances(gc.get_objects(), KINDS)))
    kept = make()
    found: list[Any] = [o for o in instances(gc.get_objects(), KINDS) if id(o) not in before]
    holding = [
        each
        for each in found
        if isinstance(each, torch.optim.Optimizer)
        or any(True for _ in each.parameters(recurse=False))
        or any(True for _ in each.children())
    ]
    assert kept is not None
    assert holding
    assert set(map(id, holding)) <= set(map(id, made.alive()))


def test_nothing_is_held_and_nothing_grows(made: MadeObjects) -> None:
    for _ in range(100):
        nn.Linear(2, 2)
    gc.collect()
    before = len(made.alive())
    for _ in range(100):
        nn.Linear(2, 2)
    assert len(made.alive()) == before


def test_what_a_search_has_found_once_is_known(
    made: MadeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not made.is_complete  # torch was there before

    def hidden() -> Callable[[], object]:
        net = nn.Sequential(Net(), nn.Linear(1, 1))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        return lambda: (net, optimizer)

    discovery = PacedDiscovery()
    holder = hidden()
    discovery.look()
    assert made.is_complete
    another = hidden()
    expected = discover_objects()

    def forbidden(generation: int | None = None) -> list[Any]:
        pytest.fail(f"all were searched: {generation}")

    monkeypatch.setattr(gc, "get_objects", forbidden)
    found = discovery.look()
    assert set(map(id, found.optimizers)) == set(map(id, expected.optimizers))
    held = {id(m) for m in expected.modules if list(m.parameters())}
    assert {id(m) for m in found.modules if list(m.parameters())} == held
    assert holder is not another


def test_a_parameter_of_no_module_is_searched_for(
    made: MadeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery = PacedDiscovery()
    discovery.look()
    asked: list[int | None] = []
    listed = gc.get_objects

    def noted(generation: int | None = None) -> list[Any]:
        asked.append(generation)
        return listed(generation=generation)

    monkeypatch.setattr(gc, "get_objects", noted)
    discovery.look()
    assert made.is_complete
    assert not asked
    discovery.look([nn.Parameter(torch.zeros(2))])
    assert asked


def test_an_optimizer_without_torchs_constructor_is_searched_for() -> None:
    assert not keeps_out_of_sight()

    class Around(torch.optim.Optimizer):
        def __init__(self, base: torch.optim.Optimizer) -> None:
            self.param_groups = base.param_groups

    assert keeps_out_of_sight()
    del Around
    gc.collect()
    assert not keeps_out_of_sight()


SCRIPT = """
import gc, sys
listed, calls = gc.get_objects, []
gc.get_objects = lambda *words, **more: calls.append(1) or listed(*words, **more)
import torch
from torch import nn

class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

class Agent:
    def __init__(self):
        self._outer = Outer()
        self.encoder, self.head = self._outer.encoder, self._outer.head
        self._optimizer = torch.optim.SGD(self._outer.parameters(), lr=0.1)

    def learn(self):
        self._optimizer.zero_grad()
        self.head(self.encoder(torch.ones(2, 4))).mean().backward()
        self._optimizer.step()

def never_stepped():
    net = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters())
    return lambda: (net, optimizer)

agent, keeps = Agent(), never_stepped()
loose = nn.Parameter(torch.ones(2)) if "loose" in sys.argv else None
if loose is not None:
    agent._optimizer.add_param_group({"params": [loose]})
agent.learn()
agent.learn()
num = len(calls)
from seismograd.capture.hub import HUB
registry = HUB._listeners[0]._registry
print([each.name for each in registry.parameter_table.parameters])
print([each.kind for each in registry.optimizers], num)
print(gc.isenabled())
"""


@pytest.mark.parametrize("words", [[], ["loose"]])
def test_hidden_models_have_their_names_without_a_search(words: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "seismograd", "run", "--quiet", "-o", "out", script, *words],
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names, optimizers, collects = done.stdout.splitlines()
    assert collects == "True"  # again, after our own imports
    parts = ["encoder.weight", "encoder.bias", "head.weight", "head.bias"]
    assert all(f"Outer.{part}" in names or f"'{part}'" in names for part in parts)
    assert ("loose" in names) == bool(words)
    assert optimizers.startswith(("['SGD', 'Adam']", "['Adam', 'SGD']"))
    assert optimizers.endswith(" 0") == (not words)
