"""A run gets a directory of its own: new, or empty and named by the user; never one that holds
something.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from seismograd import SeismogradError
from seismograd.i18n import use_language
from seismograd.record import run_directory
from seismograd.record.run_directory import create_run_directory
from tests.record.processes import run_python


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Noon(datetime):
    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def refusal(out: Path) -> str:
    with pytest.raises(SeismogradError) as caught, use_language("en"):
        create_run_directory(out, "train.py")
    assert caught.value.exit_code == 2
    with use_language("en"):
        return caught.value.line()


def test_the_name_is_the_time_and_the_script_numbered_when_taken(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory, "datetime", Noon)
    made = [create_run_directory(None, "some/where/train.py") for _ in range(3)]
    names = ["20260102T120000Z-train", "20260102T120000Z-train-2", "20260102T120000Z-train-3"]
    assert made == [here / "runs" / name for name in names]
    assert [[each.name for each in path.iterdir()] for path in made] == 3 * [["started.json"]]


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("a b;c.py", "a-b-c"),
        ("pkg.train", "pkg.train"),
        ("训练.py", "训练"),
        ("", "run"),
        ("x" * 300, "x" * 80),
    ],
)
def test_any_script_makes_a_name(script: str, name: str) -> None:
    assert create_run_directory(None, script).name.split("-", 1)[1] == name


def test_a_named_directory_is_made_with_its_parents_or_used_when_empty(here: Path) -> None:
    assert create_run_directory(Path("a/b"), "train.py") == here / "a" / "b"
    (here / "c").mkdir()
    assert create_run_directory(Path("c"), "train.py") == here / "c"


def test_a_directory_with_something_in_it_is_refused_and_kept(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("x")
    assert refusal(Path("mine")) == (
        f"{here / 'mine'} is not empty, and existing files are not overwritten · "
        "choose another directory with --out DIR"
    )
    assert [path.name for path in (here / "mine").iterdir()] == ["thesis.txt"]


def test_a_file_is_refused(here: Path) -> None:
    (here / "mine").write_text("x")
    assert "is a file, not a directory" in refusal(Path("mine"))
    assert "Not a directory" in refusal(Path("mine/below"))
    (here / "runs").write_text("x")
    with pytest.raises(SeismogradError):
        create_run_directory(None, "train.py")


def test_a_place_that_takes_no_directory_is_said() -> None:
    assert refusal(Path("/proc/seismograd")).startswith("cannot write a run to /proc/seismograd: ")


def test_a_full_disk_is_said_before_anything_runs(here: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from seismograd.errors import SeismogradError
from seismograd.record.run_directory import create_run_directory
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    create_run_directory(Path("full"), "train.py")
except SeismogradError as error:
    print(error.line())
assert not list(Path("full").iterdir())
"""
    done = run_python(code)
    assert done.stderr == ""
    assert done.stdout.startswith("cannot write a run to ") or "full" in done.stdout


def test_finding_a_place_loads_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, seismograd.record.run_directory; sys.exit('numpy' in sys.modules or "
        "'torch' in sys.modules)"
    )
    assert run_python(code).returncode == 0
