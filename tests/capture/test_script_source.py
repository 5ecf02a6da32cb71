"""Statements are found in the script's source, and where several would do, none."""

from __future__ import annotations

from pathlib import Path
from types import CodeType

import pytest

from seismograd.capture.source.cut_terms import cut_loss, cut_term
from seismograd.capture.source.detaching_statement import detached
from seismograd.capture.source.loss_calls import loss_call
from seismograd.capture.source.statements import creation, statement_at

TWO_LOSSES = """
criterion = nn.CrossEntropyLoss()
def train():
    loss = criterion(
        model(x).softmax(1), y)
    loss.backward()
def evaluate():
    total += criterion(model(x), y).item()
with torch.no_grad():
    print(criterion(model(x), y))
"""

LOGGED = """
for x in data:
    loss = F.mse_loss(model(x), x)
    average = 0.9 * average + 0.1 * loss.item()
    total += loss.item()
    loss.backward()
"""


def script(tmp_path: Path, text: str) -> str:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "script.py"
    path.write_text(text.lstrip("\n"))
    return str(path)


def line(text: str, of: str) -> int:
    return text.lstrip("\n")[: text.lstrip("\n").index(of)].count("\n") + 1


def test_the_loss_of_the_training_is_found_and_not_that_of_the_evaluation(tmp_path: Path) -> None:
    file = script(tmp_path, TWO_LOSSES)
    found = loss_call(file, line(TWO_LOSSES, "loss.backward"), "cross_entropy", "CrossEntropyLoss")
    assert found is not None
    assert found.text == "loss = criterion(model(x).softmax(1), y)"
    assert found.place == f"{file}:3"
    assert statement_at(file, 4) == found.text  # a statement of two lines


def test_of_two_calls_none_is_chosen(tmp_path: Path) -> None:
    text = "a = F.mse_loss(x, y)\nb = F.mse_loss(y, x)\n(a + b).backward()\n"
    assert loss_call(script(tmp_path, text), 3, "mse_loss", "MSELoss") is None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("loss = a + b.item()\nloss.backward()\n", 1),
        ("loss = (a + 0.5 * b.detach()) / n\nscaler.scale(loss).backward()\n", 1),
        ("def total(a, b):\n    return a + torch.tensor(b)\ntotal(a, b).backward()\n", 2),
        ("b = penalty(x).detach()\nloss = a + b\nloss.backward()\n", 1),
        ("with torch.no_grad():\n    b = f(x)\nloss = a + b\nloss.backward()\n", 1),
        ("loss = sum([a, w * b.item()])\nloss.backward()\n", 1),
        ("loss = torch.stack([a, b.detach()]).sum()\nloss.backward()\n", 1),
        ("loss = w * (a + self.v * b.detach())\nloss.backward()\n", 1),
        ("for b in terms:\n    loss += b.item()\nloss.backward()\n", 2),
        ("loss = a + w.item() * b\nloss.backward()\n", 0),  # a weight
        ("loss = a + b\nloss.backward()\n", 0),
        ("loss = a * (1 + b.detach())\nloss.backward()\n", 0),  # a weight, and no term
        (LOGGED, 0),
    ],
)
def test_the_term_that_is_cut_off_is_found(text: str, at: int, tmp_path: Path) -> None:
    found = cut_term(script(tmp_path, text), line(text, ".backward"))
    assert (0 if found is None else found.line) == at


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("b = f(x).item()\nloss = a + 0.1 * b\nloss.backward()\n", 1),
        ("loss = a - b.item()\nloss.backward()\n", 0),  # a baseline
        ("with torch.no_grad():\n    y = f(x)\nloss = mse(a, y) + c\nloss.backward()\n", 0),
    ],
)
def test_a_term_without_a_value_is_what_the_script_adds(text: str, at: int, tmp_path: Path) -> None:
    found = cut_term(script(tmp_path, text), line(text, ".backward"), certain=True)
    assert (0 if found is None else found.line) == at


def test_a_loss_that_is_made_a_leaf_is_found(tmp_path: Path) -> None:
    text = "loss = f(x)\nloss = torch.tensor(loss.item(), requires_grad=True)\nloss.backward()\n"
    found = cut_loss(script(tmp_path, f"{text}opt.step()\n"), 4)
    assert found is not None
    assert found.line == 2


def test_a_loss_that_is_none_is_not_found(tmp_path: Path) -> None:
    assert cut_loss(script(tmp_path, "loss = f(x)\nloss.backward()\nopt.step()\n"), 3) is None


def test_what_is_created_again_and_again_is_told_from_the_first_one(tmp_path: Path) -> None:
    text = "opt = SGD(p)\nfor epoch in range(3):\n    opt = SGD(p)\n    train(opt)\n"
    found = creation(script(tmp_path, text), "SGD", 4)
    assert found is not None
    assert (found.line, found.text) == (3, "opt = SGD(p)")


def test_a_function_without_gradients_that_a_forward_pass_uses_is_found(tmp_path: Path) -> None:
    helper = "@torch.no_grad()\ndef encode(x):\n    return a(x)\n"
    for call, at in (("return b(encode(x))", 1), ("encode(x)\n    return b(x)", 0)):
        text = f"{helper}def forward(x):\n    {call}\n"
        codes = compile(text, script(tmp_path / str(at), text), "exec").co_consts
        found = detached(each for each in codes if isinstance(each, CodeType))
        assert (0 if found is None else found.line) == at


@pytest.mark.parametrize(
    ("lines", "at"),
    [
        ("h = a(x)\nh = h.detach()\nreturn b(h)", 3),
        ("h = a(x)\nreturn b(h.detach())", 3),
        ("return b(a(x).data)", 2),
        ("h = a(x)\nreturn h + (sign(h) - h).detach()", 0),  # straight through
        ("self.mean = x.mean().detach()\nreturn a(x)", 0),  # does not go on
        ("h = a(x).detach()\nh = b(h).detach()\nreturn h", 0),  # which one?
        ("with torch.no_grad():\n    h = a(x).detach()\nreturn a(x) + h", 0),
        ("h = a(x)\nwith torch.no_grad():\n    h = b(h)\nreturn h", 3),
        ("h = a(x)\nwith torch.no_grad():\n    k = b(h)\nreturn c(k)", 3),
        ("with torch.no_grad():\n    self.mean = x.mean()\nreturn a(x)", 0),
        ("h = torch.from_numpy(a(x).detach().numpy())\nreturn b(h)", 2),
        ("h = a(x).detach().clone()\nreturn b(h)", 2),
        ("h = self.a(x)\nh = torch.tensor(h)\nreturn b(h)", 3),
        ("n = torch.tensor(x)\nreturn a(n)", 0),  # a list of numbers
    ],
)
def test_the_only_statement_that_cuts_a_forward_pass_is_found(
    lines: str, at: int, tmp_path: Path
) -> None:
    body = "".join(f"    {each}\n" for each in lines.splitlines())
    file = script(tmp_path, f"def forward(x):\n{body}def other(x):\n    return x.detach()\n")
    codes = compile(Path(file).read_text(), file, "exec").co_consts
    found = detached(each for each in codes if isinstance(each, CodeType) if "for" in each.co_name)
    assert (0 if found is None else found.line) == at
