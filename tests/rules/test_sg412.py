"""SG412 on states that are kept as references, and on those that are copies or meant so."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.analysis.kept_copy import with_copy  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
import copy

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
least, best = 9.0, None


class Keeper:
    def __init__(self):
        self.least, self.state = 9.0, None

    def look(self, loss):
        if loss < self.least:
            self.least = loss
            self.state = {own}


keeper = Keeper()
for epoch in range(4):
    for step in range(8):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), (x[:, 0] > 0).long())
        loss.backward()
        optimizer.step()
{body}
{end}
"""
KEPT = "if loss.item() < least:\n    least, state = loss.item(), 0\n    best = {}"
STATE = "model.state_dict()"
COPY = "{name: value.clone() for name, value in model.state_dict().items()}"
FAULTY = {
    "in the loop": ("None", KEPT.format(STATE), "model.load_state_dict(best)"),
    "in a class": (STATE, "keeper.look(loss.item())", "model.load_state_dict(keeper.state)"),
    "returned": (
        "None",
        KEPT.format(STATE),
        "def restored(module):\n    module.load_state_dict(best)\n\n\nrestored(model)",
    ),
}
HEALTHY = {
    "a deep copy": (
        "None",
        KEPT.format("copy.deepcopy(model.state_dict())"),
        "model.load_state_dict(best)",
    ),
    "clones": (COPY, "keeper.look(loss.item())", "model.load_state_dict(keeper.state)"),
    "edited and loaded": (
        "None",
        "state = model.state_dict()\nfor value in state.values():\n    value.mul_(1)\n"
        "model.load_state_dict(state)",
        "",
    ),
    "of another model": (
        "None",
        KEPT.format(STATE),
        "other = copy.deepcopy(model)\nother.load_state_dict(best)",
    ),
    "a part of them": (
        "None",
        KEPT.format(STATE) + "\n    best['3.bias'] = torch.zeros(3)",
        "model.load_state_dict(best)",
    ),
    "set elsewhere, too": (
        "None",
        KEPT.format(STATE),
        "best = dict(best)\nmodel.load_state_dict(best)",
    ),
    "its own": ("None", "pass", "model.load_state_dict(model.state_dict())"),
}


def judged(path: Path, parts: tuple[str, str, str]) -> Finding | None:
    own, body, end = parts
    text = PROGRAM.replace("{own}", own).replace("{body}", indent(body, "    "))
    file = path / "train.py"
    file.write_text(text.replace("{end}", end))
    with seismograd.watch(out=path / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": "train"})
    found = [each for each in recording.findings if each.code == "SG412"]
    return found[0] if found else None


@pytest.mark.parametrize("parts", FAULTY.values(), ids=FAULTY)
def test_a_state_that_is_no_copy_is_found(parts: tuple[str, str, str], tmp_path: Path) -> None:
    finding = judged(tmp_path, parts)
    assert finding is not None
    assert "the current parameters themselves" in finding.cause.render()
    assert "copy.deepcopy(model.state_dict())" in finding.excerpt
    assert finding.where.startswith(str(tmp_path))


@pytest.mark.parametrize("parts", HEALTHY.values(), ids=HEALTHY)
def test_other_loads_are_not(parts: tuple[str, str, str], tmp_path: Path) -> None:
    assert judged(tmp_path, parts) is None


def test_the_statement_is_shown_with_a_copy() -> None:
    assert with_copy("self.best = net.state_dict()") == (
        "self.best = copy.deepcopy(net.state_dict())"
    )
    assert with_copy("") == "best = copy.deepcopy(model.state_dict())"
