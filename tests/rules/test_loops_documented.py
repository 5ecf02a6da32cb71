"""The pages about the rules are what the rules themselves say."""

from __future__ import annotations

from tools.rules_pages import FOLDER, pages


def test_the_pages_of_the_rules_are_those_that_the_rules_make() -> None:
    written = {path.name: path.read_text(encoding="utf8") for path in FOLDER.glob("*.md")}
    assert written == pages(), "python tools/rules_pages.py"
