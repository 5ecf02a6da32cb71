"""What stands written for people holds: the README in a run, and the examples in docstrings."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from seismograd import open_run
from seismograd.i18n import use_language
from seismograd.record import reader, run_listing
from tests import synthetic


@pytest.fixture(autouse=True)
def run_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return synthetic.write_run(
        Path("runs/20260102T030405Z-train"),
        [synthetic.block(np.full((30, 4), 2.0))],
        findings=[synthetic.finding()],
    ).absolute()


@pytest.mark.parametrize("module", [reader, run_listing])
def test_examples_of_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("language", ["en", "zh"])
def test_numpy_reads_a_run_as_its_readme_says(
    run_path: Path, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with use_language(language):
        path = synthetic.write_run(
            run_path.parent / language, [synthetic.block([[1.0, 3.0], [2.0, 4.0]])]
        )
    monkeypatch.chdir(path)
    code = "\n".join(
        re.findall(r"^ {4}(\S.*)$", Path("README.txt").read_text("utf-8"), re.MULTILINE)
    )
    names: dict[str, object] = {}
    exec(compile(code, "README.txt", "exec"), names)
    run = open_run(path)
    np.testing.assert_array_equal(names["grad_norm"], run.series("grad_norm"))
    assert names["steps"].tobytes() == run.steps.tobytes()
