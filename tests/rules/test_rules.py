"""What holds for every rule, and for each that is added."""

from __future__ import annotations

import ast
import inspect
import re
import string
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from seismograd import rules
from seismograd.diagnosis.documentation import HEADINGS, documentation, extract_babel
from seismograd.i18n import translate, use_language
from seismograd.rules import RULES, Rule
from seismograd.schema import SEVERITIES, STATISTICS

FOLDER = Path(rules.__file__).parent
CODES = [rule.code for rule in RULES]

each_rule = pytest.mark.parametrize("rule", RULES, ids=CODES)


def test_codes_and_names_are_unique_and_in_order() -> None:
    assert sorted(set(CODES)) == CODES
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_every_file_of_a_rule_is_listed() -> None:
    listed = {Path(inspect.getfile(rule)).name for rule in RULES}
    assert listed == {path.name for path in FOLDER.rglob("sg*.py")}


def test_no_two_modules_of_the_rules_need_each_other_even_for_types() -> None:
    rooms = (FOLDER, FOLDER.parent / "analysis", FOLDER.parent / "diagnosis")
    files = [path for room in rooms for path in room.rglob("*.py")]
    assert [path.name for path in files if "TYPE_CHECKING" in path.read_text()] == []


def test_what_absorbs_is_not_absorbed_by_it() -> None:
    absorbs = {rule.code: {*rule.absorbs, *rule.absorbs_as_error} for rule in RULES}

    def reached(code: str, path: tuple[str, ...] = ()) -> None:
        assert code not in path, f"{code} explains itself through {path}"
        for symptom in absorbs.get(code, ()):
            reached(symptom, (*path, code))

    for code in absorbs:
        reached(code)


@each_rule
def test_a_rule_is_a_final_dataclass_in_a_file_of_its_name(rule: type[Rule]) -> None:
    assert is_dataclass(rule)
    assert len(rule.__bases__) == 1
    assert issubclass(rule, Rule)
    assert all(inspect.isabstract(base) for base in rule.mro()[1:] if issubclass(base, Rule))
    assert rule.__final__  # type: ignore[attr-defined]
    assert (
        Path(inspect.getfile(rule)).name == f"{rule.code.lower()}_{rule.name.replace('-', '_')}.py"
    )
    assert re.fullmatch(r"SG\d{3}", rule.code)
    assert rule.severity in SEVERITIES
    assert set(rule.needs) <= {statistic.name for statistic in STATISTICS}
    assert all(re.fullmatch(r"SG\d{3}", code) for code in rule.absorbs)


@each_rule
def test_a_rule_that_saw_nothing_says_what_it_needs(rule: type[Rule]) -> None:
    shortfall = rule().shortfall()
    assert shortfall is not None
    assert re.search(r"\d", shortfall.render())


@each_rule
def test_thresholds_are_numbers_and_can_be_given(rule: type[Rule]) -> None:
    thresholds = rule().thresholds()
    assert thresholds
    assert all(isinstance(value, int | float) for value in thresholds.values())
    changed = {name: type(value)(value * 2) for name, value in thresholds.items()}
    assert rule(**changed).thresholds() == changed


@each_rule
def test_the_documentation_has_all_sections_in_order(rule: type[Rule]) -> None:
    described = documentation(rule)
    assert [section.heading for section in described.sections] == list(HEADINGS)
    for section in described.sections:
        for paragraph in section.paragraphs:
            assert paragraph.render().strip()
            assert "{" not in paragraph.render()


@each_rule
def test_the_documentation_names_the_numbers_it_decides_by_as_fields_so_that_they_cannot_drift(
    rule: type[Rule],
) -> None:
    sections = {section.heading: section for section in documentation(rule).sections}
    text = " ".join(paragraph.template for paragraph in sections["How it decides"].paragraphs)
    named = {name for _, name, _, _ in string.Formatter().parse(text) if name}
    thresholds = {field.name for field in fields(rule) if field.init}
    assert named <= thresholds
    assert not re.search(r"[0-9]", re.sub(r"\{[^}]*\}", "", text)), "a number that is not a field"
    lesser = {"min_layers", "min_evaluated", "min_finite_steps"}  # said by `shortfall`
    assert thresholds - lesser <= named


@each_rule
def test_another_threshold_is_told_by_the_documentation(rule: type[Rule]) -> None:
    changed = rule(**{name: type(value)(value * 3) for name, value in rule().thresholds().items()})
    assert documentation(changed) != documentation(rule)


@each_rule
def test_the_documentation_is_extracted_paragraph_by_paragraph_with_what_is_said_besides(
    rule: type[Rule],
) -> None:
    described = documentation(rule)
    with Path(inspect.getfile(rule)).open("rb") as file:
        found = list(extract_babel(file, {"say": None, "mark": None, "translate": None}, [], {}))
    messages = [message if isinstance(message, str) else message[0] for _, _, message, *_ in found]
    paragraphs = [
        described.summary.template,
        *(p.template for section in described.sections for p in section.paragraphs),
    ]
    assert messages[: len(paragraphs)] == paragraphs
    said = [
        node
        for node in ast.walk(ast.parse(Path(inspect.getfile(rule)).read_text()))
        if _is_say(node)
    ]
    assert len(messages) == len(paragraphs) + len(said)
    lines = Path(inspect.getfile(rule)).read_text().splitlines()
    for line, _, message, *_ in found[: len(paragraphs)]:
        words = message.split()[:3]
        assert " ".join(words) in lines[line - 1]


def _is_say(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("say", "mark", "translate")
    )


def test_a_docstring_that_lacks_a_section_is_refused() -> None:
    class Short(RULES[0]):  # type: ignore[misc,valid-type]
        """A summary.

        What it finds
            Something.
        """

    with pytest.raises(ValueError, match="Why it hurts"):
        documentation(Short)


def test_headings_are_translated() -> None:
    with use_language("zh"):
        assert all(translate(heading) != heading for heading in HEADINGS)
