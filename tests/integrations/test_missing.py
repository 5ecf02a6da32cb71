"""Where a framework is missing, the import says so and what to type."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("transformers", ["transformers"]),
        ("lightning", ["lightning", "lightning.pytorch", "pytorch_lightning"]),
    ],
)
def test_a_missing_framework_is_named_with_the_mend(
    name: str, modules: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in modules:
        monkeypatch.setitem(sys.modules, each, None)
    monkeypatch.delitem(sys.modules, f"seismograd.integrations.{name}", raising=False)
    with pytest.raises(ImportError, match=f"{name} is not installed: pip install {name}"):
        import_module(f"seismograd.integrations.{name}")
