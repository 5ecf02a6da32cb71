"""The code that mends a schedule stands in the place that decides how often it is stepped."""

from __future__ import annotations

from pathlib import Path

from seismograd.analysis.schedule_code import once_per_epoch, place_of
from seismograd.capture.source.creations import interval_setter
from seismograd.schema import Fact, FactKind

RETURNED = """return {"optimizer": opt, "lr_scheduler": {"scheduler": s, "interval": "step"}}"""


def told(**values: str) -> Fact:
    return Fact(FactKind.SCHEDULE, 0, where="train.py:9", values=values)


def test_a_framework_is_told_by_its_setting() -> None:
    fact = told(text="", interval=RETURNED, interval_at="train.py:4")
    code = once_per_epoch(fact)
    assert code == RETURNED.replace('"step"', '"epoch"')
    assert place_of(fact, code) == "train.py:4"


def test_a_setting_that_is_right_is_no_mend() -> None:
    fact = told(text="", interval=RETURNED.replace('"step"', "unit"), interval_at="train.py:4")
    assert once_per_epoch(fact) == ""
    assert place_of(fact, "") == ""


def test_a_script_that_steps_it_itself_is_told_there() -> None:
    fact = told(text="sched.step()", interval=RETURNED, interval_at="train.py:4")
    code = once_per_epoch(fact)
    assert code.startswith("sched.step()  # once per epoch")
    assert place_of(fact, code) == ""


def test_the_only_statement_that_sets_it_is_found(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"def configure_optimizers(self):\n    {RETURNED}\n")
    found = interval_setter(str(script))
    assert found is not None
    assert (found.line, found.text) == (2, RETURNED)
    twice = tmp_path / "two.py"
    twice.write_text(f"def one():\n    {RETURNED}\n\ndef two():\n    {RETURNED}\n")
    assert interval_setter(str(twice)) is None
