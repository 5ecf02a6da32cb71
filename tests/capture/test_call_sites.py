"""The line that a finding points at is the user's own, wherever its libraries are installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seismograd.capture.loop.call_sites import CallSites


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
