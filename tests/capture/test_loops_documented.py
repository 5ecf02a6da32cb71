"""The table of loops in the documentation is that of the tests."""

from __future__ import annotations

from tools.loops_table import PAGE, page

from tests.capture.loops import LOOPS


def test_the_documented_loops_are_those_that_are_tested() -> None:
    text = PAGE.read_text(encoding="utf8")
    assert page(text) == text, "python tools/loops_table.py"


def test_there_are_enough_loops_and_no_name_twice() -> None:
    assert len({loop.name for loop in LOOPS}) == len(LOOPS) >= 40
