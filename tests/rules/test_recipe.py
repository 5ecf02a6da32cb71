"""The recipe of docs/writing_rules.md, followed: its rule runs, is documented and can be chosen."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from tools.rules_pages import page, table

from seismograd.diagnosis.rule import Rule
from seismograd.diagnosis.whole_record import diagnose
from seismograd.record.reader import open_run
from seismograd.rules import RULES
from seismograd.settings.rule_selection import select_rules
from tests.rules import test_rules as meta
from tests.stored_runs.stored import unpack

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "writing_rules.md").read_text(encoding="utf-8")
STEM = "sg999_low_learning_rate"


def load(path: Path) -> ModuleType:
    """Import a file as a module of its name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Rule]]:
    """The rule of the guide, from a file of its own."""
    match = re.search(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert match is not None
    path = tmp_path_factory.mktemp("rules") / f"{STEM}.py"
    path.write_text(match[1], encoding="utf-8")
    yield load(path).LowLearningRate
    del sys.modules[STEM]


def test_the_rule_of_the_guide_is_a_rule_like_the_others(rule: type[Rule]) -> None:
    checks = [
        check
        for name, check in vars(meta).items()
        if name.startswith("test_") and "rule" in check.__annotations__
    ]
    assert len(checks) >= 7
    for check in checks:
        check(rule)


def test_it_runs_beside_the_others_over_a_stored_run(rule: type[Rule], tmp_path: Path) -> None:
    unpack("vanishing", tmp_path / "run")
    run = open_run(tmp_path / "run")
    made = partial(rule, max_lr=10.0, min_steps=3)
    diagnosis = diagnose(run.blocks(7), [*RULES, made], run.notes, run.facts)
    (found,) = (each for each in diagnosis.findings() if each.code == "SG999")
    assert (found.first_step, found.last_step) == (2, int(run.steps["iteration"][-1]))
    assert found.where
    usual = {each.code: each for each in diagnose(run.blocks(), [rule]).statuses()}
    assert usual["SG999"].status == "clear"


def test_its_page_and_its_line_in_the_table_are_written(rule: type[Rule]) -> None:
    text = page(rule)
    assert text.startswith("# SG999 low-learning-rate\nThe learning rate is next to nothing.")
    assert "In 20 steps of an optimizer in a row the learning rate is 1e-09 or less." in text
    written: dict[str, object] = {}
    exec(table([rule]), written)
    assert written["RULE_TABLE"] == {"SG999": ("low-learning-rate", ["max_lr", "min_steps"])}
    selection = select_rules(["low-learning-rate"], rules=written["RULE_TABLE"])  # type: ignore[arg-type]
    assert selection.includes("SG999", "low-learning-rate")


def test_the_map_names_what_there_is() -> None:
    named = set(re.findall(r"`(\w+)\.(\w+)`", GUIDE))
    helpers = {(module, name) for module, name in named if module not in ("block", "self")}
    assert len(helpers) >= 7
    for module, name in helpers - {("torch", "optim")}:
        loaded = importlib.import_module(f"seismograd.analysis.{module}")
        assert hasattr(loaded, name), f"{module}.{name}"
