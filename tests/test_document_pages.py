"""The tutorial and the how-to pages: what they tell the reader to do is done, and what is printed
is what they show, but for the numbers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools.documents.output_match import agrees, renewed
from tools.documents.page_blocks import blocks_of, commands_of

pytest.importorskip("torch")
ROOT = Path(__file__).parent.parent
TUTORIAL = "docs/tutorial.md"
HOW_TOS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/howto/[!R]*.md"))
# Each of these has what others do not show: a finding with its mend, the judgement of a run in
# CI, a training that goes on, and what other tools call it.
EACH_TIME = [f"docs/howto/{name}.md" for name in ("nan", "ci", "resuming")]
OTHERS = [page for page in HOW_TOS if page not in EACH_TIME]
EACH_TIME.append("docs/coming_from.md")


def chinese(page: str) -> str:
    return page.replace("docs/", "docs/zh/", 1)


def carried_out(*pages: str) -> dict[str, list[str]]:
    """What is wrong with each page."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.documents", *pages],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["page"] for each in said] == list(pages), done.stderr
    return {each["page"]: each["faults"] for each in said}


@pytest.mark.slow
def test_a_page_shows_what_is_printed() -> None:
    assert carried_out(*EACH_TIME) == {page: [] for page in EACH_TIME}


@pytest.mark.extended
def test_the_tutorial_shows_what_is_printed() -> None:
    assert carried_out(TUTORIAL) == {TUTORIAL: []}


@pytest.mark.extended
def test_the_other_pages_show_what_is_printed() -> None:
    chinese_pages = [chinese(page) for page in [*HOW_TOS, TUTORIAL]]
    pages = [*OTHERS, *chinese_pages]
    assert carried_out(*pages) == {page: [] for page in pages}


@pytest.mark.parametrize("page", [TUTORIAL, *HOW_TOS])
def test_a_chinese_page_has_the_same_code_and_commands(page: str) -> None:
    def typed(path: Path) -> list[object]:
        return [
            [each.words for each in commands_of(block.body)]
            if block.language == "console"
            else (block.language, block.title, block.body)
            for block in blocks_of(path)
        ]

    assert typed(ROOT / page) == typed(ROOT / chinese(page))


@pytest.mark.parametrize("page", HOW_TOS)
def test_a_how_to_shows_a_finding_and_a_run_without_it(page: str) -> None:
    """Its own rule is found in the script, and not after the mend."""
    shown = [
        "\n".join(each.expected)
        for block in blocks_of(ROOT / page)
        if block.language == "console"
        for each in commands_of(block.body)
    ]
    assert sum("SG" in each for each in shown) == 1
    assert any("No problems found" in each or each == "0" for each in shown)


def test_numbers_may_differ_and_codes_may_not() -> None:
    page = ["…", "error SG201 nonfinite-gradient · steps 1 to 299", "…"]
    assert agrees(page, ["x", "error SG201 nonfinite-gradient · steps", " 4 to 1,299", "y"])
    assert not agrees(page, ["x", "error SG202 nonfinite-gradient · steps 1 to 299", "y"])
    assert not agrees(["norm 1.5"], ["norm nan"])
    assert not agrees(["a", "b"], ["a"])


def test_what_a_page_shows_is_renewed_where_it_stands() -> None:
    actual = ["one 5", "two", "three 7"]
    assert renewed(["one 1", "…", "three 3"], actual) == ["one 5", "…", "three 7"]
    assert renewed(["four"], actual) == actual
