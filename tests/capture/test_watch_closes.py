"""What `watch` says when it closes, and what its recording offers meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import seismograd
from seismograd.api import Recording


def trained(session: Recording, model: torch.nn.Module, lr: float, steps: int = 40) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


def test_one_line_says_where_the_record_is_and_how_the_training_went(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    with seismograd.watch(model, out="it") as session:
        trained(session, model, 0.05)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("seismograd: record: it (steps: 40, parameters: 2) · ")
    assert "the loss fell (" in line
    assert line.endswith("next: seismograd check it")
    session.close()
    assert capsys.readouterr().err == ""


def test_a_quiet_one_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Linear(4, 1)
    with seismograd.watch(model, out=tmp_path / "it", quiet=True) as session:
        trained(session, model, 0.05)
    assert capsys.readouterr() == ("", "")


def test_where_nothing_stepped_the_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seismograd.watch(torch.nn.Linear(4, 1), out=tmp_path / "it").close()
    assert "no optimizer step was recorded in " in capsys.readouterr().err


def test_a_recording_says_what_it_is_and_gives_its_run(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 1)
    session = seismograd.watch(model, out=tmp_path / "it", quiet=True)
    assert repr(session) == f"<Recording {tmp_path / 'it'}: steps: 0, findings: 0, open>"
    trained(session, model, 0.05)
    session.close()
    assert "steps: 40" in repr(session)
    assert repr(session).endswith("closed>")
    run = session.run
    assert run is not None
    assert len(run.steps) == 40


def test_an_error_of_ours_carries_its_hint_into_a_traceback() -> None:
    with pytest.raises(seismograd.SeismogradError) as caught:
        seismograd.watch(level="heavy")
    assert caught.value.hint is not None
    assert caught.value.__notes__ == [caught.value.hint.render()]


def test_the_last_step_of_an_epoch_belongs_to_it(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 1)
    with seismograd.watch(model, out=tmp_path / "it", quiet=True) as session:
        trained(session, model, 0.05, steps=1)
        for epoch in range(2):
            session.epoch(epoch)
            trained(session, model, 0.05, steps=3)
    assert seismograd.open_run(tmp_path / "it").steps["epoch"].tolist() == [-1, 0, 0, 0, 1, 1, 1]
