"""SG409 on copies of a network that are meant to follow it, and on those that are not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.analysis.mended_update import mended_update  # noqa: E402
from seismograd.capture.source.averaging import averaging_statement  # noqa: E402
from seismograd.capture.source.left_out_buffers import left_out_buffers  # noqa: E402
from seismograd.capture.source.void_updates import void_update  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
import copy
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


def network():
    first = nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 24)
    return nn.Sequential(*first, nn.Tanh(), nn.Linear(24, 3))


model = network()
{made}
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


{update}


for step in range({steps}):
    x = torch.randn(32, 12)
    with torch.no_grad():
        wanted = 0.5 * target(x.to(next(target.parameters()).dtype)).float() + x[:, :3].sin()
    optimizer.zero_grad()
    F.mse_loss(model(x), wanted).backward()
    optimizer.step()
    {call}
"""
COPY = "target = copy.deepcopy(model).requires_grad_(False)"
LOW = "target = copy.deepcopy(model).to(torch.bfloat16).requires_grad_(False)"
LOOP = "    for q, p in zip(target.parameters(), model.parameters()):\n"

VOID = {
    "update of a state_dict": "def sync():\n    target.state_dict().update(model.state_dict())",
    "entry of a state_dict": "def sync():\n    for name, value in model.state_dict().items():\n"
    "        target.state_dict()[name] = 0.9 * value",
    "dictionary never loaded": "def sync():\n    averaged = target.state_dict()\n"
    "    for name, value in model.state_dict().items():\n"
    "        averaged[name] = 0.99 * averaged[name] + 0.01 * value",
    "variable of the loop": "@torch.no_grad()\ndef sync():\n"
    + LOOP
    + "        q = 0.99 * q + 0.01 * p",
    "result thrown away": "@torch.no_grad()\ndef sync():\n" + LOOP + "        q.lerp(p, 0.01)",
    "result of data": "def sync():\n" + LOOP + "        q.data.mul(0.9).add_(0.1 * p.data)",
}
FOLLOWING = {
    "loaded": "def sync():\n    target.load_state_dict(model.state_dict())",
    "averaged": "@torch.no_grad()\ndef sync():\n" + LOOP + "        q.lerp_(p, 0.01)",
    "entries copied to": "@torch.no_grad()\ndef sync():\n"
    "    for name, value in model.state_dict().items():\n"
    "        target.state_dict()[name].copy_(0.9 * value)",
    "dictionary loaded": "def sync():\n    averaged = target.state_dict()\n"
    "    for name, value in model.state_dict().items():\n"
    "        averaged[name] = 0.99 * averaged[name] + 0.01 * value\n"
    "    target.load_state_dict(averaged)",
    "variable that is copied": "@torch.no_grad()\ndef sync():\n"
    "    for r, p in zip(target.parameters(), model.parameters()):\n"
    "        q = r\n        r = 0.99 * r + 0.01 * p\n        q.copy_(r)",
    "set now and then": "def sync():\n    if step % 50 == 49:\n"
    "        target.load_state_dict(model.state_dict())",
    "never, as a reference": "def sync():\n    pass",
}


def judged(
    path: Path, made: str, update: str, call: str = "sync()", steps: int = 70
) -> Finding | None:
    file = path / "train.py"
    file.write_text(PROGRAM.format(made=made, update=update, call=call, steps=steps))
    with seismograd.watch(out=path / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": "train"})
    found = [each for each in recording.findings if each.severity != "info"]
    assert {each.code for each in found} <= {"SG409"}
    return found[0] if found else None


@pytest.mark.parametrize("update", VOID.values(), ids=VOID)
def test_an_update_that_changes_nothing_is_found(update: str, tmp_path: Path) -> None:
    finding = judged(tmp_path, COPY, update)
    assert finding is not None
    assert finding.severity == "error"
    assert "target has not changed in 29 steps, while model, which" in finding.cause.render()
    assert finding.where.startswith(str(tmp_path))
    assert finding.excerpt


@pytest.mark.parametrize("update", FOLLOWING.values(), ids=FOLLOWING)
def test_a_copy_that_follows_or_is_left_alone_on_purpose(update: str, tmp_path: Path) -> None:
    assert judged(tmp_path, COPY, update) is None


def test_a_void_update_of_what_changes_all_the_same_is_no_matter(tmp_path: Path) -> None:
    update = VOID["result thrown away"] + "\n        q.copy_(0.5 * q + 0.5 * p)"
    assert judged(tmp_path, COPY, update) is None


def test_an_average_in_bfloat16_rounds_its_updates_away(tmp_path: Path) -> None:
    update = "@torch.no_grad()\ndef sync():\n" + LOOP + "        q.lerp_(p.to(q.dtype), 0.001)"
    finding = judged(tmp_path, LOW, update, steps=140)
    assert finding is not None
    assert "target, an average of model in bfloat16, does not follow it" in finding.cause.render()
    assert finding.where.endswith("train.py:23")


def test_averages_of_torch_in_bfloat16(tmp_path: Path) -> None:
    made = (
        "from torch.optim.swa_utils import AveragedModel\n"
        "moved = lambda q, p, num: torch.lerp(q, p.to(q.dtype), 0.001)\n"
        "average = AveragedModel(model, avg_fn=moved).bfloat16()\n"
        "target = average.module"
    )
    finding = judged(tmp_path, made, "pass", "average.update_parameters(model)", steps=140)
    assert finding is not None
    assert "in bfloat16" in finding.cause.render()


NORMS = COPY.replace("target =", "model.insert(1, nn.BatchNorm1d(24))\ntarget =") + ".eval()"
AVERAGE = "@torch.no_grad()\ndef sync():\n" + LOOP + "        q.lerp_(p, 0.05)"
OF_TORCH = (
    "from torch.optim import swa_utils\nmodel.insert(1, nn.BatchNorm1d(24))\n"
    "target = swa_utils.AveragedModel(model{given}).eval()"
)
LEFT_OUT = {
    "a loop over parameters": (NORMS, AVERAGE, "sync()"),
}
NOT_LEFT_OUT = {
    "buffers copied": (
        NORMS,
        AVERAGE + "\n    for q, p in zip(target.buffers(), model.buffers()):\n        q.copy_(p)",
        "sync()",
    ),
    "buffers to be computed at the end": (
        NORMS,
        AVERAGE
        + "\n\n\ndef finish(batches):\n    torch.optim.swa_utils.update_bn(batches, target)",
        "sync()",
    ),
    "buffers copied by torch": (
        OF_TORCH.format(given=""),
        "",
        "target.update_parameters(model)",
    ),
    "buffers averaged": (
        OF_TORCH.format(given=", use_buffers=True"),
        "",
        "target.update_parameters(model)",
    ),
    "a teacher in train mode": (NORMS.removesuffix(".eval()"), AVERAGE, "sync()"),
    "loaded now and then": (
        NORMS,
        AVERAGE,
        "sync()\n    if step % 64 == 63: target.load_state_dict(model.state_dict())",
    ),
    "no norms": (COPY, AVERAGE, "sync()"),
}


@pytest.mark.parametrize("parts", LEFT_OUT.values(), ids=LEFT_OUT)
def test_an_average_without_its_buffers_is_found(
    parts: tuple[str, str, str], tmp_path: Path
) -> None:
    finding = judged(tmp_path, *parts)
    assert finding is not None
    assert "target, an average of model, has its parameters and not" in finding.cause.render()
    assert "target.buffers(), model.buffers()" in finding.excerpt
    assert finding.where.startswith(str(tmp_path))


@pytest.mark.parametrize("parts", NOT_LEFT_OUT.values(), ids=NOT_LEFT_OUT)
def test_an_average_whose_buffers_are_cared_for(
    parts: tuple[str, str, str], tmp_path: Path
) -> None:
    assert judged(tmp_path, *parts) is None


def test_an_average_that_only_holds_weights_needs_no_buffers(tmp_path: Path) -> None:
    file = tmp_path / "held.py"
    loop = "for q, p in zip(ema.parameters(), net.parameters()):\n    q.lerp_(p, 0.1)\n"
    used = {"": False, "put(ema, net)": False, "save(ema.state_dict())": False, "ema(x)": True}
    for number, (text, is_found) in enumerate({**used, "test(ema)": True}.items()):
        file = tmp_path / f"held{number}.py"
        file.write_text(loop + text)
        assert (left_out_buffers((str(file),), "ema", "net") is not None) is is_found


LOW_BUT_RIGHT = {
    "a reference": "pass",
    "an average in large steps": LOOP.replace("    for", "for")
    + "            q.lerp_(p.to(q.dtype), 0.5)",
    "set now and then": "if step % 40 == 39: target.load_state_dict(model.state_dict())",
    "set at each step": "target.load_state_dict(model.state_dict())",
}


@pytest.mark.parametrize("call", LOW_BUT_RIGHT.values(), ids=LOW_BUT_RIGHT)
def test_copies_in_bfloat16_that_are_as_they_should_be(call: str, tmp_path: Path) -> None:
    if "lerp_" in call:
        call = "with torch.no_grad():\n        " + call
    assert judged(tmp_path, LOW, "pass", call, steps=140) is None


@pytest.mark.parametrize(
    ("text", "statement", "target", "mended"),
    [
        (
            "q.state_dict().update(p.state_dict())",
            "update",
            "q",
            "q.load_state_dict(p.state_dict())",
        ),
        ("q.state_dict()[k] = v", "entry", "q", "q.state_dict()[k].copy_(v)"),
        ("q = 0.9 * q + 0.1 * p", "variable", "q", "q.data.copy_(0.9 * q + 0.1 * p)"),
        ("q.data.mul(0.9).add_(p)", "result", "q", "q.data.mul_(0.9).add_(p)"),
        ("q.detach().lerp(p, 0.1)", "result", "q", "q.detach().lerp_(p, 0.1)"),
        ("d[k] = v", "dict", "d q", "q.load_state_dict(d)  # after the loop that sets the entries"),
        ("", "update", "q", "target.load_state_dict(model.state_dict())"),
    ],
)
def test_the_statement_is_shown_so_that_it_writes(
    text: str, statement: str, target: str, mended: str
) -> None:
    assert mended_update(text, statement, target) == mended


def test_of_several_statements_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text("a.state_dict().update(b)\nc.state_dict().update(d)\n")
    assert void_update((str(file), str(tmp_path / "none.py"))) is None
    loop = "for q, p in zip(a.parameters(), b.parameters()):\n    q.lerp_(p, 0.1)\n"
    file = tmp_path / "loops.py"
    file.write_text(loop)
    assert averaging_statement((str(file),)) is not None
    file = tmp_path / "more.py"
    file.write_text(textwrap.dedent(loop) * 2)
    assert averaging_statement((str(file),)) is None
