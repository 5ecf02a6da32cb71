"""SG310 on gradient hooks that pile up on the same parameters, and on hooks that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
body, head = nn.Sequential(nn.Linear(6, 16), nn.Tanh()), nn.Linear(16, 2)
optimizer = torch.optim.SGD(nn.ModuleList([body, head]).parameters(), lr=0.01)


def halve(grad, by=0.5):
    return grad * by


def later(p):
    p.grad.mul_(0.5)


class Halve:
    def __call__(self, grad):
        return grad / 2


seen = []
handles = []
for epoch in range(6):
    for p in {parameters}:
        {register}
    for step in range(8):
        x = torch.randn(32, 6)
        loss = F.cross_entropy(head(body(x)), (x[:, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    {after}
"""
SOME, ALL = "body.parameters()", "[*body.parameters(), *head.parameters()]"
FAULTY = {
    "lambda": (SOME, "p.register_hook(lambda g: g * 0.5)"),
    "function": (SOME, "p.register_hook(halve)"),
    "bound": (SOME, "p.register_hook(partial(halve, by=0.9))"),
    "object": (SOME, "p.register_hook(Halve())"),
    "of all": (ALL, "p.register_hook(lambda g: 2 * g)"),
    "after accumulation": (SOME, "p.register_post_accumulate_grad_hook(later)"),
}
HEALTHY = {
    "once": (SOME, "if epoch == 0: p.register_hook(halve)", ""),
    "removed": (
        SOME,
        "handles.append(p.register_hook(halve))",
        "while handles: handles.pop().remove()",
    ),
    "only reads": (SOME, "p.register_hook(lambda g: seen.append(float(g.norm())))", ""),
    "the same again": (SOME, "p.register_hook(lambda g: g.clamp(-0.001, 0.001))", ""),
    "a mask": (SOME, "p.register_hook(lambda g, m=torch.rand_like(p) > 0.2: g * m)", ""),
    "twice from the beginning": (
        SOME,
        "epoch or (p.register_hook(halve), p.register_hook(halve))",
        "",
    ),
}


def findings(name: str, folder: Path, **parts: str) -> list[Finding]:
    file = folder / f"{name}.py"
    file.write_text(PROGRAM.format(**parts))
    with seismograd.watch(out=folder / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": name})
    return [each for each in recording.findings if each.code == "SG310"]


@pytest.mark.parametrize(("parameters", "register"), FAULTY.values(), ids=FAULTY)
def test_hooks_that_pile_up_are_found(parameters: str, register: str, tmp_path: Path) -> None:
    found = findings("epochs", tmp_path, parameters=parameters, register=register, after="")
    (finding,) = (each for each in found if "times on the same parameters" in each.cause.render())
    assert finding.severity == "error"
    assert "has been registered 4 times" in finding.cause.render()
    assert "epochs.py" in finding.where
    if "lambda" in register:
        assert finding.where.endswith("epochs.py:30")


@pytest.mark.parametrize(("parameters", "register", "after"), HEALTHY.values(), ids=HEALTHY)
def test_other_hooks_are_left_alone(
    parameters: str, register: str, after: str, tmp_path: Path
) -> None:
    parts = {"parameters": parameters, "register": register, "after": after}
    assert findings("healthy", tmp_path, **parts) == []
