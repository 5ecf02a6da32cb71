"""The source that is read is that of the file that ran, not of another one of its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from seismograd.record.reader import open_run
from seismograd.schema import FactKind

PROGRAM = """
import torch
from torch import nn

net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for _ in range(5):
    t = torch.rand(16, 1).requires_grad_(True)
    u = net(t)
    du = torch.autograd.grad(u, t, torch.ones_like(u), retain_graph=True)[0]
    loss = (du + 2 * u).pow(2).mean() + (net(torch.zeros(1, 1)) - 1).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_file_of_the_same_name_where_the_program_begins_is_not_read(tmp_path: Path) -> None:
    for folder, text in (("own", PROGRAM), ("here", "print(1)\n" * 20)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.py").write_text(text)
    command = [sys.executable, "-m", "seismograd", "run", "--out", str(tmp_path / "run")]
    subprocess.run(
        [*command, str(tmp_path / "own" / "train.py")],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        check=True,
        capture_output=True,
    )
    facts = open_run(tmp_path / "run").facts
    places = {fact.values["place"] for fact in facts if fact.kind == FactKind.FIRST_ORDER_TERM}
    assert places == {"train.py:10"}
