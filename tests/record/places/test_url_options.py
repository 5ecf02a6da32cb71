"""URLs where a program, a command and a project name the place of a record."""

from __future__ import annotations

from pathlib import Path

import pytest

import seismograd
from seismograd import SeismogradError, open_run
from seismograd.cli import main
from seismograd.settings.project_file import read_settings
from tests.record.places.stores import stores

__all__ = ["stores"]
pytestmark = pytest.mark.usefixtures("stores")


def test_watch_records_to_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANGUAGE", "en")
    url = (tmp_path / "store" / "one").as_uri()
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=url, upload_wait=120) as recording:
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).square().mean().backward()
            optimizer.step()
    assert recording.path == tmp_path / "runs" / "one"
    assert recording.failures == []
    assert capfd.readouterr().err.splitlines()[-1] == f"seismograd: the record is also at {url}"
    assert open_run(url).num_rows == 4
    assert open_run(url).ended


def test_a_run_to_an_impossible_place_is_refused_before_the_script_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANGUAGE", "en")
    Path("train.py").write_text("raise SystemExit(3)")
    for url, problem in (
        ("nowhere://me:pass-word@x/y", "fsspec knows no places that begin with nowhere://"),
        ("memory://bucket/y", "would be gone with the process"),
        ("s3://", "is not an URL of a place"),
    ):
        assert main(["run", "--out", url, "train.py"]) == 2
        said = capsys.readouterr().err
        assert problem in said
        assert "pass-word" not in said
        assert len(said.splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir() if each.name != "cache"] == ["train.py"]


def test_a_project_names_the_folder_of_its_records(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.seismograd]\nout = "s3://bucket/runs"\n')
    assert read_settings(tmp_path).out == "s3://bucket/runs"
    (tmp_path / "pyproject.toml").write_text('[tool.seismograd]\nout = "experiments"\n')
    with pytest.raises(SeismogradError, match="out must be the URL of a folder"):
        read_settings(tmp_path)


def test_commands_that_change_a_record_refuse_one_at_a_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fsck", "memory://bucket/one", "--mend", "--lang", "en"]) == 2
    assert "cannot be mended there" in capsys.readouterr().err
    assert main(["upload", "memory://me:pass-word@bucket/one"]) == 2
    assert "pass-word" not in capsys.readouterr().err
