"""Scripts as people have them: with DataLoader workers, configuration by argv, guards for
multiprocessing, or out of a notebook.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import seismograd

LOADER = """
    import sys
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Squares(Dataset):
        def __len__(self): return 24
        def __getitem__(self, i): return torch.full((4,), float(i)), torch.tensor([float(i * i)])

    def main():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        loader = DataLoader(Squares(), batch_size=8, shuffle=True, num_workers=1, multiprocessing_context=sys.argv[1])
        for epoch in range(2):
            for x, y in loader:
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(model(x), y)
                loss.backward()
                optimizer.step()
                print(loss.item().hex())

    if __name__ == "__main__":
        main()
    """

CONFIGURED = """
    import sys
    from dataclasses import dataclass, fields
    import torch

    @dataclass
    class Config:
        lr: float = 0.1
        steps: int = 3

    config = Config()
    for override in sys.argv[1:]:
        key, value = override.lstrip("+").split("=")
        field = next(f for f in fields(Config) if f.name == key)
        setattr(config, key, {"float": float, "int": int}[field.type if isinstance(field.type, str) else field.type.__name__](value))
    print(config)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    for step in range(config.steps):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())
    """

NOTEBOOK = """
    #!/usr/bin/env python
    # coding: utf-8

    # # A notebook
    # In[1]:
    import torch
    import torch.nn as nn
    torch.manual_seed(0);

    # In[2]:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    opt = torch.optim.SGD(net.parameters(), lr=.1)
    net

    # In[3]:
    for i in range(4):
        opt.zero_grad()
        l = (net(torch.randn(8, 4)) ** 2).mean()
        l.backward()
        opt.step()
        print(l)
    """


def run(folder: Path, text: str, *arguments: str) -> seismograd.Run:
    """Run the script bare and watched, compare, and open the record."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text).lstrip(), encoding="utf8")
    commands = (
        [str(script)],
        ["-m", "seismograd", "run", "--quiet", "--out", str(folder / "run"), str(script)],
    )
    bare, watched = (
        subprocess.run(
            [sys.executable, *c, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=180,
        )
        for c in commands
    )
    assert watched.stdout == bare.stdout
    assert watched.stderr == bare.stderr
    record = seismograd.open_run(folder / "run")
    assert record.ended
    assert not [note for note in record.notes if note.kind == "failure"]
    return record


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=pytest.mark.extended),  # test_ends.py has such workers
        "spawn",
        pytest.param("forkserver", marks=pytest.mark.extended),
    ],
)
def test_dataloader_workers_are_left_alone_however_they_start(method: str, tmp_path: Path) -> None:
    assert len(run(tmp_path, LOADER, method).steps) == 6


@pytest.mark.extended  # test_as_python.py has arguments
def test_a_configuration_by_arguments_reaches_the_script(tmp_path: Path) -> None:
    record = run(tmp_path, CONFIGURED, "lr=0.01", "+steps=5")
    assert len(record.steps) == 5
    assert set(record.steps["lr"]) == {0.01}


def test_a_notebook_exported_as_a_script_is_followed(tmp_path: Path) -> None:
    record = run(tmp_path, NOTEBOOK)
    assert len(record.steps) == 4
    assert [p.name for p in record.parameters] == ["0.weight", "0.bias", "2.weight", "2.bias"]
