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

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).square().mean().backward()
    optimizer.step()
"""


def test_a_file_of_the_same_name_where_the_program_begins_is_not_read(tmp_path: Path) -> None:
    for folder, text in (("own", PROGRAM), ("here", PROGRAM.replace("SGD", "Adam"))):
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
    made = [f for f in open_run(tmp_path / "run").facts if f.kind == FactKind.OPTIMIZER_CREATED]
    assert [str(fact.values["text"]) for fact in made] == [
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.125)"
    ]
