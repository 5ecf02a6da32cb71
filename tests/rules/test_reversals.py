"""SG310 on gradient reversals, of which some do not turn the sign."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.analysis.mended_reversal import turned  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
{code}

body, head = nn.Sequential(nn.Linear(6, 16), nn.Tanh()), nn.Linear(16, 2)
judge = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(nn.ModuleList([body, head, judge]).parameters(), lr=1e-3)
for step in range(16):
    x = torch.randn(32, 6)
    h = body(x)
    loss = F.cross_entropy(head(h), (x[:, 0] > 0).long())
    loss = loss + F.cross_entropy(judge(passed(h, 0.5)), (x[:, 1] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CLASS = """
class {name}(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return {returned}, None

passed = {name}.apply
"""

FAULTY = {
    "no minus": ("GradReverse", "ctx.weight * grad"),
    "as it is": ("GRL", "grad"),
    "two minuses": ("GradientReversalFunction", "-ctx.weight * -grad"),
    "divided": ("RevGrad", "grad / 3"),
}
HEALTHY = {
    "turned": ("GradReverse", "-ctx.weight * grad"),
    "neg": ("GRL", "grad.neg() * ctx.weight"),
    "another name": ("GradScale", "ctx.weight * grad"),
    "reversible": ("ReversibleFunction", "grad"),
    "off for now": ("GradReverse", "0.0 * grad"),
    "another order": ("ReverseOrder", "grad.flip(1)"),
}


def judged(path: Path, name: str, returned: str) -> list[Finding]:
    file = path / "train.py"
    file.write_text(PROGRAM.format(code=CLASS.format(name=name, returned=returned)))
    with seismograd.watch(out=path / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": "train"})
    return [each for each in recording.findings if each.severity != "info"]


@pytest.mark.parametrize(("name", "returned"), FAULTY.values(), ids=FAULTY)
def test_a_reversal_that_keeps_the_sign_is_found(name: str, returned: str, tmp_path: Path) -> None:
    (finding,) = judged(tmp_path, name, returned)
    assert (finding.code, finding.severity, finding.first_step) == ("SG310", "error", 0)
    assert f"{name} at" in finding.cause.render()
    assert finding.where.endswith("train.py:16")
    assert finding.excerpt.startswith("return -")


@pytest.mark.parametrize(("name", "returned"), HEALTHY.values(), ids=HEALTHY)
def test_functions_that_do_as_they_are_called(name: str, returned: str, tmp_path: Path) -> None:
    assert judged(tmp_path, name, returned) == []


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("return ctx.lam * grad, None", "return -ctx.lam * grad, None"),
        ("return grad", "return -grad"),
        ("return (grad,)", "return -grad,"),
        ("x = grad", ""),
        ("return", ""),
    ],
)
def test_what_backward_returns_is_shown_with_its_sign(text: str, mended: str) -> None:
    assert turned(text) == mended
