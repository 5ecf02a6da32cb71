"""SG410 on searches for a learning rate whose weights are kept, and on other rates that rise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.analysis.rate_search import RateSearch  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
wanted = torch.randn(20, 5)
Adam, SGD = torch.optim.Adam, torch.optim.SGD


def step(optimizer, model, rate=None):
    if rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate
    x = torch.randn(64, 20)
    loss = F.cross_entropy(model(x), (x @ wanted).argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def search(model, optimizer, num=50, low=1e-6, high=10.0):
    for at in range(num):
        step(optimizer, model, low * (high / low) ** (at / (num - 1)))


"""
AFTER = """
for _ in range(20):
    step(optimizer, model)
"""
SEARCH = "search(model, Adam(model.parameters()))\noptimizer = Adam(model.parameters(), lr=1e-3)\n"
WITH_SCHEDULER = """
optimizer = Adam(model.parameters(), lr=1e-6)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 1.4)
for _ in range(48):
    step(optimizer, model)
    scheduler.step()
optimizer = Adam(model.parameters(), lr=1e-3)
"""
KEPT = {
    "a new optimizer": SEARCH,
    "the same with a small rate": "optimizer = Adam(model.parameters())\n"
    "search(model, optimizer)\nfor g in optimizer.param_groups: g['lr'] = 1e-3\n",
    "both alive": "finder = SGD(model.parameters(), lr=1)\n"
    "optimizer = SGD(model.parameters(), lr=1e-3)\nsearch(model, finder, high=100)\n",
    "by a scheduler": WITH_SCHEDULER,
    "loaded too early": "before = copy.deepcopy(model.state_dict())\n"
    "model.load_state_dict(before)\n" + SEARCH,
}
RATES = "optimizer = Adam(model.parameters(), lr=1e-3)\n"
SOUND = {
    "loaded back": "before = copy.deepcopy(model.state_dict())\n"
    + SEARCH
    + "model.load_state_dict(before)\n",
    "copied back": "before = [p.detach().clone() for p in model.parameters()]\n"
    + SEARCH
    + "with torch.no_grad():\n    for p, q in zip(model.parameters(), before): p.copy_(q)\n",
    "on a copy": "other = copy.deepcopy(model)\nsearch(other, Adam(other.parameters()))\n" + RATES,
    "ends before the loss explodes": "search(model, Adam(model.parameters()), high=1e-2)\n" + RATES,
    "a warm-up": RATES + "search(model, optimizer, high=1e-3)\n",
    "warm-up, then another stage": RATES
    + "search(model, optimizer, high=1e-2)\noptimizer = Adam(model[4].parameters(), lr=1e-4)\n",
    "one cycle": RATES
    + "s = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=61, div_factor=1e3)\n"
    "for _ in range(60):\n    step(optimizer, model)\n    s.step()\n",
    "warm restarts": RATES
    + "s = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 15)\n"
    "for _ in range(60):\n    step(optimizer, model)\n    s.step()\n",
    "explodes at one rate": "optimizer = SGD(model.parameters(), lr=3e3)\n"
    "for _ in range(3): step(optimizer, model)\noptimizer = SGD(model.parameters(), lr=1e-3)\n",
}


def judged(path: Path, setup: str, code: str = "SG410") -> Finding | None:
    file = path / "train.py"
    file.write_text(PROGRAM + setup + AFTER)
    with seismograd.watch(out=path / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": "train"})
    return next((each for each in recording.findings if each.code == code), None)


@pytest.mark.parametrize("setup", KEPT.values(), ids=KEPT)
def test_weights_of_a_search_that_are_kept_are_found(setup: str, tmp_path: Path) -> None:
    finding = judged(tmp_path, setup)
    assert finding is not None
    assert finding.severity == "error"
    assert "the learning rate is raised from 1e-06 to" in finding.cause.render()
    assert finding.first_step == 0
    assert finding.where.startswith(str(tmp_path))


@pytest.mark.parametrize("setup", SOUND.values(), ids=SOUND)
def test_other_rates_that_rise_are_left_alone(setup: str, tmp_path: Path) -> None:
    assert judged(tmp_path, setup) is None


def test_a_search_that_ends_in_nan_is_found(tmp_path: Path) -> None:
    setup = "search(model, SGD(model.parameters(), lr=1), high=1e8)\n"
    finding = judged(tmp_path, setup + "optimizer = SGD(model.parameters(), lr=1e-3)\n")
    assert finding is not None
    assert "the loss explodes" in finding.cause.render()


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, np.nan, np.inf]), max_size=9), max_size=5
    )
)
def test_steps_of_one_rate_count_together_as_one_by_one(parts: list[list[float]]) -> None:
    one_by_one, together = RateSearch(0, 0.1, 0.1), RateSearch(0, 0.1, 0.1)
    step = 0
    for losses in parts:
        for number, loss in enumerate(losses):
            one_by_one.add(step + number, 0.1, loss)
        step += len(losses)
        together.add_level(step - 1, np.array(losses))
    assert together == one_by_one


UNTIL_IT_EXPLODES = """
finder, lowest = Adam(model.parameters()), float("inf")
for at in range(60):
    loss = step(finder, model, 1e-6 * 1e7 ** (at / 59))
    lowest = min(lowest, loss)
    if loss > 4 * lowest:
        break
"""


def test_where_the_weights_are_loaded_back_the_explosion_is_no_spike(tmp_path: Path) -> None:
    before = "before = copy.deepcopy(model.state_dict())\n"
    setup = f"{before}{UNTIL_IT_EXPLODES}model.load_state_dict(before)\n{RATES}"
    assert judged(tmp_path, setup, "SG103") is None
