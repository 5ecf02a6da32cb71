"""The examples of the documents do what they say: each document's blocks of Python are run in
order, as a reader would type them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seismograd.settings.tracker_options import TrackerOption
from seismograd.sinks.tracker import RunStart
from seismograd.sinks.tracker_sink import TrackerSink
from tests.synthetic import block, finding
from tests.views.samples import small_net

DOCS = Path(__file__).parent.parent / "docs"


def python_blocks(document: str) -> list[str]:
    text = (DOCS / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_examples_of_export_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pyarrow", "pandas", "polars", "xarray", "duckdb"):
        pytest.importorskip(package)
    small_net(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks("export.md")
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for each in blocks:
        exec(each, names)
    assert names["largest"].height == 4  # type: ignore[attr-defined]
    assert "fc1.weight" in names["cube"]["parameter"].values  # type: ignore[index]


def test_the_tracker_of_the_document_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    (block_of_code,) = python_blocks("trackers.md")
    exec(block_of_code, names)
    monkeypatch.setattr(
        "seismograd.sinks.tracker_sink.make_tracker", lambda option: names["Mine"](option.target)
    )
    run = RunStart("train.py", "2026-01-02T03:04:05Z", "2.13.0", lambda: Path("runs/one"))
    sink = TrackerSink([TrackerOption("mine", "there")], run, lambda _: None)
    sink.observe(block(np.ones((3, 2))))
    sink.finding(finding())
    sink.close()
    said = capsys.readouterr().out
    assert "tracking train.py to there" in said
    assert "SG201" in said
    assert "steps: 3" in said
