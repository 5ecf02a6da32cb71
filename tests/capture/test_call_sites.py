"""The line that a finding points at is the user's own, wherever its libraries are installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.names import shown_paths


def of_file(filename: Path, source: str, **names: object) -> Callable[[], int]:
    """Return the function `call` of a source, as if the file held it."""
    namespace: dict[str, object] = dict(names)
    exec(compile(source, str(filename), "exec"), namespace)
    call = namespace["call"]
    assert callable(call)
    return call


@pytest.mark.parametrize(
    "folder",
    [
        "other_env/lib/python3.11/site-packages",  # of an environment that this one stands on
        "home/.local/lib/python3.11/site-packages",  # pip install --user
        "usr/lib/python3/dist-packages",
    ],
)
def test_a_library_of_another_environment_is_not_the_user(folder: str, tmp_path: Path) -> None:
    sites = CallSites()
    installed = tmp_path / folder / "wrapper" / "optimizer.py"
    library = of_file(installed, "def call():\n    return here()", here=sites.here)
    script = of_file(tmp_path / "train.py", "def call():\n\n    return inner()", inner=library)
    site = sites.sites[script()]
    assert (Path(site.file).name, site.line) == ("train.py", 3)


def test_a_library_is_named_by_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # with the environment within the project
    sites = CallSites()
    own = tmp_path / ".venv" / "lib" / "site-packages" / "wrapper" / "optimizer.py"
    assert sites._shown(str(own)) == "wrapper/optimizer.py"


@pytest.mark.parametrize(
    ("file", "began_in", "shown"),
    [
        ("/home/ann/project/train.py", "/home/ann/project", "train.py"),
        ("/home/ann/project/train.py", "/scratch", "train.py"),
        ("/home/ann/project/nets/mlp.py", "/scratch", "nets/mlp.py"),
        ("/home/ann/shared/loss.py", "/scratch", "../shared/loss.py"),
        ("/home/ann/project/train.py", "/home", "train.py"),  # not ann/project/train.py
        ("/home/ann/project/train.py", "/", "train.py"),
        ("/opt/shared/loss.py", "/scratch", "/opt/shared/loss.py"),
        ("<string>", "/scratch", "<string>"),
    ],
)
def test_places_are_told_without_the_home_directory(
    monkeypatch: pytest.MonkeyPatch, file: str, began_in: str, shown: str
) -> None:
    monkeypatch.setattr(shown_paths, "HOMES", (Path("/home/ann"),))
    monkeypatch.setattr(shown_paths, "script_folder", lambda: Path("/home/ann/project"))
    assert shown_paths.shown_path(Path(file), Path(began_in)) == shown


def test_a_number_has_its_site_wherever_the_program_has_interrupted(tmp_path: Path) -> None:
    """A signal's handler may raise at any call of ours while a line is seen for the first time."""
    script_file = tmp_path / "train.py"
    script_file.write_text("def call():\n    return here()\n", "utf-8")
    number, interrupted = 0, True
    while interrupted:
        number, interrupted = number + 1, False
        sites = CallSites()
        script = of_file(script_file, script_file.read_text("utf-8"), here=sites.here)
        left = number

        def interrupt(_frame: object, event: str, _arg: object) -> None:
            nonlocal left
            left -= event == "call"
            if left == 0:
                raise InterruptedError

        sys.setprofile(interrupt)
        try:
            script()
        except InterruptedError:
            interrupted = True
        finally:
            sys.setprofile(None)
        site = sites.sites[script()]
        assert (Path(site.file).name, site.line, len(sites.sites)) == ("train.py", 2, 1), number
    assert number > 10
