"""SG301 on workers that hand the gradients of their copy to the optimizer of the shared network."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.schema import Finding, StepFlag  # noqa: E402

PROGRAM = """
import copy

import torch
from torch import nn

torch.manual_seed(0)
shared = nn.Sequential({layers})
workers = [copy.deepcopy(shared) for _ in range({num_workers})]
optimizer = torch.optim.SGD(shared.parameters(), lr=1e-4)
buffers = {{}}
w = torch.randn(4, 1)


def fill(p):
    buffers[id(p)] = buffers.get(id(p), torch.zeros_like(p)).copy_(p.grad)
    p.grad = None


for step in range(60):
    local = workers[step % {num_workers}]
    {begin}
    for _ in range({num_backwards}):
        x = torch.randn(16, 4)
        loss = (local(x) - x @ w).pow(2).mean()
        loss.backward()
    for p, q in zip(shared.parameters(), local.parameters()):
        {hand}
    optimizer.step()
    {end}
    with torch.no_grad():
        {give}
"""
DEEP = "nn.Linear(4, 8), *[nn.Linear(8, 8) for _ in range(6)], nn.Linear(8, 1)"
USUAL = {
    "layers": "nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)",
    "num_workers": "1",
    "num_backwards": "1",
    "begin": "optimizer.zero_grad()",
    "hand": "p._grad = q.grad",
    "end": "",
    "give": "local.load_state_dict(shared.state_dict())",
}
ZEROS = "[q.grad.data.zero_() for q in local.parameters() if q.grad is not None]"
FILL = "step or [q.register_post_accumulate_grad_hook(fill) for q in local.parameters()]"
FAULTY = {
    "as in A3C": {},
    "only where there is none": {"hand": "p.grad = p.grad if p.grad is not None else q.grad"},
    "cleared after the step": {"begin": "pass", "end": "optimizer.zero_grad()"},
    "accumulated": {"num_backwards": "2"},
    "several workers": {"num_workers": "3", "layers": DEEP},
    "clipped": {"hand": "p.grad = q.grad.mul_(0.5)"},
    "copied by hand": {
        "give": "[q.copy_(p) for p, q in zip(shared.parameters(), local.parameters())]"
    },
}
HEALTHY = {
    "set to none": {"begin": "optimizer.zero_grad(), local.zero_grad()"},
    "set to zero": {"begin": "optimizer.zero_grad(), local.zero_grad(set_to_none=False)"},
    "set to zero by data": {"begin": f"optimizer.zero_grad(), {ZEROS}"},
    "one for both": {"begin": "optimizer.zero_grad(set_to_none=False)"},
    "cleared after the step": {
        "num_backwards": "3",
        "begin": "pass",
        "end": "optimizer.zero_grad(), local.zero_grad()",
    },
    "cloned": {"hand": "p.grad, q.grad = q.grad.clone(), None"},
    "by a buffer": {"begin": f"optimizer.zero_grad(), {FILL}", "hand": "p.grad = buffers[id(q)]"},
    "overwritten before the backward": {
        "begin": "optimizer.zero_grad(), step and [q.grad.normal_() for q in local.parameters()]"
    },
}


def watched(name: str, folder: Path, parts: dict[str, str]) -> tuple[list[Finding], int]:
    """Return what was found, and the flags of all steps."""
    file = folder / f"{name}.py"
    file.write_text(PROGRAM.format(**{**USUAL, **parts}))
    with seismograd.watch(out=folder / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": name})
    flags = 0
    for each in seismograd.open_run(folder / "run").steps["flags"].tolist():
        flags |= each
    return recording.findings, flags


@pytest.mark.parametrize("parts", FAULTY.values(), ids=FAULTY)
def test_gradients_that_a_copy_keeps_are_found(parts: dict[str, str], tmp_path: Path) -> None:
    findings, _ = watched("worker", tmp_path, parts)
    (finding,) = (each for each in findings if each.code == "SG301")
    worker = "workers[0]" if "num_workers" in parts else "local"
    assert finding.excerpt == f"{worker}.zero_grad()\nloss.backward()"
    assert "they are those of" in finding.cause.render()
    assert finding.first_step == int(parts.get("num_workers", "1"))
    assert finding.last_step == 59
    assert len(finding.parameters) == (16 if "layers" in parts else 4)


@pytest.mark.parametrize("parts", HEALTHY.values(), ids=HEALTHY)
def test_gradients_that_are_cleared_are_left_alone(parts: dict[str, str], tmp_path: Path) -> None:
    findings, _ = watched("healthy", tmp_path, parts)
    assert [each.code for each in findings] == []


def test_a_copy_that_is_given_the_weights_is_no_step_by_hand(tmp_path: Path) -> None:
    _, flags = watched("healthy", tmp_path, HEALTHY["set to none"])
    assert flags & StepFlag.COPIED
    assert not flags & StepFlag.BY_HAND


def test_a_network_of_other_shapes_is_updated_by_hand(tmp_path: Path) -> None:
    other = {
        "begin": "optimizer.zero_grad(), local.zero_grad()",
        "layers": "nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)",
        "hand": "p.grad = q.grad.clone()",
        "give": "[q.sub_(1e-3 * q.grad) for q in local.parameters()]",
    }
    other["begin"] += "; (step or local.append(nn.Linear(1, 1)))"
    _, flags = watched("by_hand", tmp_path, other)
    assert flags & StepFlag.BY_HAND
    assert not flags & StepFlag.COPIED
