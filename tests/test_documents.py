"""The examples of the documents do what they say: each document's blocks of Python are run in
order, as a reader would type them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
    for block in blocks:
        exec(block, names)
    assert names["largest"].height == 4  # type: ignore[attr-defined]
    assert "fc1.weight" in names["cube"]["parameter"].values  # type: ignore[index]
