"""Show the rules themselves: all of them in a table, or the documentation of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from seismograd.diagnosis.added_rule import added_rule_class
from seismograd.diagnosis.documentation import Section, documentation
from seismograd.diagnosis.rule import Rule
from seismograd.errors import SeismogradError
from seismograd.i18n import say, translate
from seismograd.record import strict_json
from seismograd.rules import RULES
from seismograd.settings.added_rules import added_rule, added_rules
from seismograd.settings.rule_selection import nearest_rule
from seismograd.views.text_layout import wrap
from seismograd.views.values import SEVERITY_STYLES, severity_word

_WIDEST = 90
_ITEM = "- "


def find_rule(wanted: str) -> type[Rule]:
    """Return the rule of that code or name, case-insensitively; also one of another package, which
    is loaded.

    Raises:
        SeismogradError: there is none.
    """
    by_word = {word: rule for rule in RULES for word in (rule.code.lower(), rule.name)}
    rule = by_word.get(wanted.strip().lower())
    if rule is None and added_rule(wanted.strip().upper()) is not None:
        return _added(wanted.strip().upper())
    if rule is None:
        near = nearest_rule(wanted, {each.code: each.name for each in RULES})
        nearest = by_word[near.lower()] if near else None
        raise SeismogradError(
            say("unknown rule {rule}", rule=repr(wanted)),
            say(
                "did you mean {code} {name}? `seismograd rules` lists all rules",
                code=nearest.code,
                name=nearest.name,
            )
            if nearest
            else say("`seismograd rules` lists all rules"),
        )
    return rule


def _added(code: str) -> type[Rule]:
    try:
        rule = added_rule_class(code)
        documentation(rule)
    except Exception as error:
        raise SeismogradError(
            say(
                "{code} cannot be loaded: {error}",
                code=code,
                error=f"{type(error).__name__}: {str(error)[:200]}",
            )
        ) from error
    return rule


def catalogue() -> RenderableType:
    """Return every rule with its code, its name, its usual severity, and its summary."""
    return _Catalogue()


@dataclass(frozen=True, slots=True)
class _Catalogue:
    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        width = min(options.max_width, _WIDEST) - 4
        for rule in RULES:
            yield _headline(rule)
            yield from (
                Text("    " + line) for line in wrap(documentation(rule).summary.render(), width)
            )
        for point in added_rules():
            yield Text(point.name, "bold")
            yield from (Text("    " + line) for line in wrap(_origin(point), width))


def catalogue_json() -> str:
    """Return the same as JSON, in the current language."""
    added = [
        {"code": point.name, "name": "", "severity": "", "summary": _origin(point)}
        for point in added_rules()
    ]
    return strict_json.dumps([*map(_about, RULES), *added], indent=2).decode()


def _origin(point: EntryPoint) -> str:
    """Return where a rule of another package is, which is not loaded for that."""
    return translate("{object}, in the package {package}; --select {code} uses it").format(
        object=point.value, package=point.dist.name if point.dist else "?", code=point.name
    )


def explanation_json(rule: type[Rule]) -> str:
    """Return the documentation of a rule as JSON, in the current language."""
    sections = {
        translate(each.heading): [paragraph.render() for paragraph in each.paragraphs]
        for each in documentation(rule).sections
    }
    return strict_json.dumps({**_about(rule), "sections": sections}, indent=2).decode()


def _about(rule: type[Rule]) -> dict[str, object]:
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity,
        "summary": documentation(rule).summary.render(),
    }


def explanation(rule: type[Rule]) -> RenderableType:
    """Return the documentation of a rule, with its thresholds."""
    return _Explanation(rule)


@dataclass(frozen=True, slots=True)
class _Explanation:
    rule: type[Rule]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        width = min(options.max_width, _WIDEST)
        known = documentation(self.rule)
        yield _headline(self.rule)
        yield from (Text(line) for line in wrap(known.summary.render(), width))
        for section in known.sections:
            yield Text()
            yield from _section(section, width)


def _headline(rule: type[Rule]) -> Text:
    return Text.assemble(
        (f"{rule.code} {rule.name}", "bold"),
        "  ",
        (severity_word(rule.severity), SEVERITY_STYLES[rule.severity]),
    )


def _section(section: Section, width: int) -> Iterator[RenderableType]:
    yield Text(translate(section.heading), style="bold cyan")
    was_item = True
    for paragraph in section.paragraphs:
        text = paragraph.render()
        is_item = text.startswith(_ITEM)
        if not (is_item or was_item):
            yield Text()
        yield Group(*_paragraph(text, width, is_item))
        was_item = is_item


def _paragraph(text: str, width: int, is_item: bool) -> Iterator[Text]:
    first, *others = wrap(text, width - 4 if is_item else width - 2) or [""]
    yield Text(f"  {first}")
    yield from (Text(f"{'    ' if is_item else '  '}{line}") for line in others)
