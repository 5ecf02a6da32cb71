"""A record holds statements of the script, and none of the secrets in them."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

from seismograd.capture.source.recordable_source import recordable_line, recordable_statement


def recorded(source: str) -> str:
    return recordable_statement(ast.parse(source).body[0], source)


@pytest.mark.parametrize(
    "source",
    [
        'loss = send(loss, "sk-live-9f3A")',
        'loss = send(loss, "two words")',
        'loss = send(loss, password="hunter")',
        'api_key = start("hunter")',
        'loss = send(loss, headers["authorization"], "hunter")',
        "loss = send(loss, b'hunter')",
        'loss = send(loss, f"hunter {loss}")',
        'loss = send(loss, "/home/hunter/x.pt")',
        'loss = send(loss, "hunter@example.org")',
        'loss = send(loss)  # hunter',
        'loss = send(loss, "a" "-hunter")',
    ],
)  # fmt: skip
def test_what_may_be_secret_is_left_out(source: str) -> None:
    text = recorded(source)
    assert "send(" in text or "start(" in text
    assert not any(each in text for each in ("hunter", "sk-", "9f3A", "words"))


@pytest.mark.parametrize(
    "source",
    [
        'loss = F.cross_entropy(model(x), y, reduction="sum")',
        "scheduler = ReduceLROnPlateau(optimizer, mode='max')",
        'scaler = torch.amp.GradScaler("cuda:1")',
        "(loss / 4).backward()",
        "model.load_state_dict(torch.load('best_model.pt'))",
    ],
)
def test_what_code_needs_is_kept_as_it_is_written(source: str) -> None:
    assert recorded(source) == source


def test_a_line_within_a_statement_is_masked_as_well(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(
        'loss = send(\n    x.log(),  # hunter\n    x.exp(), "s-hunter", y, f"h {x}", z,\n'
        '    """\n    hunter {x.log()}\n    """)\n'
    )
    lines = [recordable_line(str(file), number) for number in range(1, 8)]
    assert lines == ["loss = send(", "x.log(),", "x.exp(), '…', y, '…', z,", "", "", "", ""]


def test_a_record_holds_no_secret_of_the_lines_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import torch, seismograd\n"
        "def secret(value, note):\n    return value\n"
        "model = torch.nn.Linear(3, 2)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "with seismograd.watch(model, optimizer, out='run'):\n"
        "    for _ in range(8):\n"
        "        optimizer.zero_grad()\n"
        "        loss = secret(model(torch.rand(4, 3)).softmax(1), 'hunter-two')\n"
        "        loss = torch.nn.functional.cross_entropy(loss, torch.tensor([0, 1, 0, 1]))\n"
        "        secret(loss, 'hunter-two').backward()  # hunter-two\n"
        "        optimizer.step(secret(None, note='hunter-two'))\n"
    )
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    files = [each for each in (tmp_path / "run").rglob("*") if each.is_file()]
    texts = [each.read_bytes() for each in files]
    assert any(b"secret(loss, " in text for text in texts)  # the lines are there
    assert not any(b"hunter" in text for text in texts)
