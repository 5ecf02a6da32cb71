"""The report as Markdown: the findings in words and the last step as a table, for an issue or a
mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from seismograd.diagnosis.training_course import training_course
from seismograd.i18n import translate
from seismograd.record.parameter_selection import find_parameters
from seismograd.schema import Finding, State
from seismograd.schema.finding_html import place_label
from seismograd.views.notable_gradients import notable_gradients
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.run_condition import end_code, end_word
from seismograd.views.step import GradientNumbers, find_row, read_step
from seismograd.views.values import (
    NOTHING,
    count,
    number,
    sentences,
    severity_word,
    shape,
    share,
    some,
    state_word,
    steps,
)
from seismograd.views.verdict_words import course_lines, headline

_WWW = re.compile(r"\bwww(?=\.)", re.IGNORECASE)


def render(source: RunSource) -> str:
    """Return the report; everything that comes from the run is escaped, so that a name is never
    markup.
    """
    return "\n".join(_lines(source)) + "\n"


def _lines(source: RunSource) -> Iterator[str]:
    run, verdict = source.run, source.verdict
    yield f"# {_plain(translate('Gradients of {script}').format(script=run.info.script))}"
    yield ""
    yield _plain(
        sentences(
            (
                translate("run {run}").format(run=run.path.name),
                run.info.created_utc,
                translate("steps: {number}").format(number=count(run.num_rows)),
                translate("parameters: {number}").format(number=count(len(run.parameters))),
                "" if end_code(run) == "complete" else end_word(end_code(run)),
            )
        )
    )
    yield ""
    course = training_course(run)
    yield f"**{_plain(headline(verdict, course))}**"
    for line in course_lines(verdict, course):
        yield from ("", _plain(line))
    for finding in verdict.findings:
        yield from _finding(finding)
    if run.num_rows:
        yield from _last_step(source)
    for message in (run.torn, run.not_kept):
        if message is not None:
            yield from ("", _plain(message.render()))


def _finding(finding: Finding) -> Iterator[str]:
    yield ""
    title = (
        severity_word(finding.severity),
        f"{finding.code} {finding.name}",
        steps(finding.first_step, finding.last_step),
    )
    yield f"## {_plain(sentences(title))}"
    yield ""
    if finding.parameters:
        yield f"- {_plain(some(finding.parameters))}"
    yield "- " + _plain(
        translate("{label}: ").format(label=translate("Cause")) + finding.cause.render()
    )
    yield "- " + _plain(
        translate("{label}: ").format(label=translate("Change")) + finding.advice.render()
    )
    if finding.where:
        yield (
            "- " + translate("{label}: ").format(label=place_label(finding)) + _code(finding.where)
        )
    if finding.excerpt:
        yield ""
        yield from (f"      {line}" for line in finding.excerpt.splitlines())
    if finding.evidence:
        yield ""
        yield _row(
            (
                translate("evidence"),
                translate("parameter"),
                translate("step"),
                translate("value"),
                translate("limit"),
            )
        )
        yield _row(("---", "---", "---:", "---:", "---:"), escaped=True)
        for each in finding.evidence:
            where = each.parameter or translate("(all)")
            yield _row(
                (each.statistic, where, str(each.step), number(each.value), number(each.limit))
            )


def _last_step(source: RunSource) -> Iterator[str]:
    run = source.run
    step = read_step(run, find_row(run, None), find_parameters(run.parameters, ()))
    shown = notable_gradients(step)
    yield ""
    title = translate("Gradients at the last step ({step}):").format(step=step.iteration)
    yield f"## {_plain(title.rstrip(':：'))}"
    yield ""
    titles = (
        translate("parameter"),
        translate("shape"),
        translate("norm"),
        translate("max |g|"),
        translate("zeros"),
        translate("state"),
    )
    yield _row(titles)
    yield _row(("---", "---", "---:", "---:", "---:", "---"), escaped=True)
    for each in shown:
        yield _row(_gradient(each))
    hidden = len(step.gradients) - len(shown)
    if hidden:
        yield ""
        yield _plain(translate("… parameters omitted here: {number}").format(number=count(hidden)))


def _gradient(gradient: GradientNumbers) -> tuple[str, ...]:
    numbers = (
        number(gradient.norm),
        number(gradient.maximum),
        share(gradient.zeros, gradient.parameter.numel),
    )
    seen = numbers if gradient.measured else (NOTHING,) * 3
    return (
        gradient.parameter.name,
        shape(gradient.parameter.shape),
        *seen,
        state_word(State(gradient.state)),
    )


def _row(cells: Sequence[str], escaped: bool = False) -> str:
    return f"| {' | '.join(cell if escaped else _plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    return " ".join(map(_word, text.split()))


def _word(word: str) -> str:
    # GitHub looks for @names and mail addresses in the finished text, so no escape keeps them from
    # being links, and from calling somebody: only code is left alone.
    if "@" in word:
        return _code(word)
    for special in "\\`*_[]<>|#&~":
        word = word.replace(special, f"\\{special}")
    # bare addresses
    return _WWW.sub(r"\g<0>\\", word.replace("://", "\\://"))


def _code(text: str) -> str:
    bare = " ".join(text.replace("`", "").split())
    return f"`{bare.replace('|', chr(92) + '|')}`"
