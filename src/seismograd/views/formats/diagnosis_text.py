"""The verdict in words: a block for each finding, then the outcome of the other rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from seismograd.diagnosis.training_course import training_course
from seismograd.diagnosis.verdict import Verdict
from seismograd.i18n import translate
from seismograd.schema import Evidence, Finding
from seismograd.schema.finding_html import place_label
from seismograd.views.text_layout import wrap, wrap_code
from seismograd.views.values import (
    SEVERITY_STYLES,
    count,
    number,
    sentences,
    severity_word,
    some,
    steps,
)
from seismograd.views.verdict_words import TONE_STYLES, course_lines, headline, tone
from seismograd.views.watching_cost import watching_cost

_WIDEST = 100
_MOST_EVIDENCE = 8
_INDENT = "  "
_CODE_INDENT = " " * 6


@dataclass(frozen=True, slots=True)
class VerdictText:
    """The whole verdict."""

    verdict: Verdict

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        width = min(options.max_width, _WIDEST)
        yield from opening(self.verdict, width)
        yield Text()
        for finding in self.verdict.findings:
            yield from finding_block(finding, width)
            yield Text()
        yield from _rest(self.verdict, width)
        cost = watching_cost(self.verdict.run)
        if cost is not None:
            yield Text()
            yield from (Text(line, style="dim") for line in wrap(cost, width))


def render(verdict: Verdict) -> RenderableType:
    """Return the verdict as text."""
    return VerdictText(verdict)


def opening(verdict: Verdict, width: int) -> Iterator[Text]:
    """Yield what was found, and how the training went."""
    course = training_course(verdict.run)
    style = TONE_STYLES[tone(verdict, course)]
    yield from (Text(line, style=style) for line in wrap(headline(verdict, course), width))
    for said in course_lines(verdict, course):
        yield from (Text(line) for line in wrap(said, width))


def finding_block(finding: Finding, width: int, evidence: bool = True) -> Iterator[RenderableType]:
    """Yield one finding: what, since when, where, why, what to change, and the numbers that support
    it.
    """
    yield Text.assemble(
        (severity_word(finding.severity), SEVERITY_STYLES[finding.severity]),
        " ",
        (f"{finding.code} {finding.name}", "bold"),
        f" · {steps(finding.first_step, finding.last_step)}",
    )
    if finding.parameters:
        yield from _paragraph("", some(finding.parameters), width)
    yield from _paragraph(translate("Cause"), finding.cause.render(), width)
    if finding.where:
        yield from _paragraph(place_label(finding), finding.where, width)
    yield from _paragraph(translate("Change"), finding.advice.render(), width)
    for line in finding.excerpt.splitlines():
        for part in wrap_code(line, width - len(_CODE_INDENT)):
            yield Text(_CODE_INDENT + part, style="cyan")
    if finding.related:
        yield from _paragraph(translate("Explains"), ", ".join(finding.related), width)
    if evidence and finding.evidence:
        yield from _evidence(finding.evidence)


def _paragraph(label: str, text: str, width: int) -> Iterator[Text]:
    opening = translate("{label}: ").format(label=label) if label else ""
    opened, *following = text.splitlines() or [""]
    first, *others = wrap(opening + opened, width - len(_INDENT)) or [""]
    others += [line for paragraph in following for line in wrap(paragraph, width - len(_INDENT))]
    yield Text.assemble(_INDENT, (first[: len(opening)], "bold"), first[len(opening) :])
    yield from (Text(_INDENT + line) for line in others)


def _evidence(evidence: Sequence[Evidence]) -> Iterator[RenderableType]:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(_INDENT + translate("evidence"))
    table.add_column(translate("parameter"), overflow="fold")
    for title in (translate("step"), translate("value"), translate("limit")):
        table.add_column(title, justify="right")
    for each in evidence[:_MOST_EVIDENCE]:
        table.add_row(
            _INDENT + each.statistic,
            each.parameter or translate("(all)"),
            str(each.step),
            number(each.value),
            number(each.limit),
        )
    yield table
    hidden = len(evidence) - _MOST_EVIDENCE
    if hidden > 0:
        yield Text(
            _INDENT
            + translate("… and {number} more; --format json lists all").format(
                number=count(hidden)
            ),
            style="dim",
        )


def _rest(verdict: Verdict, width: int) -> Iterator[RenderableType]:
    clear = [each.code for each in verdict.statuses if each.status == "clear"]
    if clear:
        yield from (
            Text(line)
            for line in wrap(
                translate("{label}: ").format(label=translate("Clear")) + ", ".join(clear), width
            )
        )
    reasons: dict[str, list[str]] = {}
    for each in verdict.statuses:
        if each.status == "not evaluated":
            reasons.setdefault(each.reason.render(), []).append(each.code)
    for reason, codes in reasons.items():
        label = translate("{label}: ").format(label=translate("Not evaluated"))
        yield from (
            Text(line, style="dim")
            for line in wrap(label + sentences((", ".join(codes), reason)), width)
        )
