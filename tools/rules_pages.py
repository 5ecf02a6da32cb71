"""Writes what follows from the rules themselves: docs/rules/, and the table of their names and
thresholds that is read where no rule may be loaded. `make rules` runs it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from seismograd.diagnosis.documentation import documentation
from seismograd.diagnosis.rule import Rule
from seismograd.rules import RULES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "rules"
TABLE = ROOT / "src" / "seismograd" / "settings" / "rule_table.py"
WIDTH = 140


def pages() -> dict[str, str]:
    """The text of each page by its file name."""
    return {"README.md": _index(), **{f"{rule.code}.md": page(rule) for rule in RULES}}


def table(rules: Sequence[type[Rule]] = RULES) -> str:
    """The text of `settings/rule_table.py`."""
    entries = "".join(
        f'    "{rule.code}": (\n        "{rule.name}",\n        [\n'
        + "".join(f'            "{name}",\n' for name in rule().thresholds())
        + "        ],\n    ),\n"
        for rule in rules
    )
    return (
        '"""The name and the thresholds of every rule by its code; written by `make rules`."""\n\n'
        "from __future__ import annotations\n\nfrom collections.abc import Mapping, Sequence\n\n"
        "RuleTable = Mapping[str, tuple[str, Sequence[str]]]\n\n"
        f"RULE_TABLE: RuleTable = {{\n{entries}}}\n"
    )


def write_table() -> None:
    """Write `settings/rule_table.py`."""
    TABLE.write_text(table(), encoding="utf8")


def write_pages() -> None:
    """Write docs/rules/, without the pages of rules that are gone."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf8")


def _index() -> str:
    rows = "\n".join(
        f"| [{rule.code}]({rule.code}.md) | {rule.name} | {rule.severity} | "
        f"{documentation(rule).summary.render()} |"
        for rule in RULES
    )
    return (
        "# What is found\nEvery rule that looks at a run. `seismograd explain CODE` prints the "
        "same pages, in English or Chinese.\n\n"
        f"| code | name | severity | what it finds |\n|---|---|---|---|\n{rows}\n"
    )


def page(rule: type[Rule]) -> str:
    """The page of one rule."""
    known = documentation(rule)
    parts = [
        f"# {rule.code} {rule.name}\n{_filled(known.summary.render())}\n\nSeverity: {rule.severity}"
    ]
    for section in known.sections:
        paragraphs = [paragraph.render() for paragraph in section.paragraphs]
        text = "".join(
            ("\n" if text.startswith("- ") else "\n\n") + _filled(text) for text in paragraphs
        ).lstrip("\n")
        parts.append(f"## {section.heading}\n{text}")
    thresholds = rule().thresholds()
    if thresholds:
        rows = "\n".join(f"| `{name}` | {value:g} |" for name, value in thresholds.items())
        parts.append(
            "## Thresholds\nTo be changed under "
            f"`[tool.seismograd.thresholds.{rule.code}]` in pyproject.toml.\n\n| name | value "
            f"|\n|---|---|\n{rows}"
        )
    return "\n\n".join(parts) + "\n"


def _filled(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    write_table()
    write_pages()
