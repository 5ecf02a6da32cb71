"""SG413 on optimizers whose momentum is the gradient itself, and on those that keep their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.schema import Finding  # noqa: E402
from tests.rules.programs import classify, mlp  # noqa: E402


class Momentum(torch.optim.Optimizer):
    """As many write it."""

    def __init__(self, params: Any, entry: str, copies: bool) -> None:
        super().__init__(params, {"lr": 0.05})
        self.entry, self.copies = entry, copies

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            if self.entry == "last":
                state["last"] = p.grad
            elif self.entry not in state:
                state[self.entry] = p.grad.clone() if self.copies else p.grad
            else:
                state[self.entry].mul_(0.9).add_(p.grad)
            p.add_(state[self.entry], alpha=-0.05)


def judged(path: Path, entry: str, copies: bool, to_none: bool) -> Finding | None:
    model = mlp(3, torch.nn.Tanh)
    optimizer = Momentum(model.parameters(), entry, copies)
    with seismograd.watch(model, optimizer, out=path / "run") as recording:
        for step in range(12):
            optimizer.zero_grad(set_to_none=to_none)
            classify(model, step).backward()
            optimizer.step()
    found = [each for each in recording.findings if each.code == "SG413"]
    return found[0] if found else None


@pytest.mark.parametrize("entry", ["buf", "momentum_buffer", "exp_avg", "m"])
def test_a_momentum_that_is_the_gradient_is_found(entry: str, tmp_path: Path) -> None:
    finding = judged(tmp_path, entry, copies=False, to_none=False)
    assert finding is not None
    assert f"keeps as {entry} is the gradient itself" in finding.cause.render()
    assert finding.excerpt == f'state["{entry}"] = p.grad.clone()'
    assert finding.parameters


@pytest.mark.parametrize(
    ("entry", "copies", "to_none"),
    [("buf", True, False), ("buf", True, True), ("buf", False, True), ("last", False, False)],
)
def test_others_are_not(entry: str, copies: bool, to_none: bool, tmp_path: Path) -> None:
    assert judged(tmp_path, entry, copies, to_none) is None
