"""The answer as text, with a plot of the depth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.analysis.birth_words import words
from seismograd.analysis.split_words import cause_of
from seismograd.i18n import mark, translate
from seismograd.schema import Finding
from seismograd.views.formats.diagnosis_text import finding_block, opening
from seismograd.views.signal_words import sentence, time_words
from seismograd.views.text_layout import wrap
from seismograd.views.values import count, number
from seismograd.views.why.answer import Answer
from seismograd.views.why.changes_before import WINDOW, Change
from seismograd.views.why.depth_plot import DepthPlot

MOST_FINDINGS = 3
WIDEST = 100
NAMES = {
    "lr": mark("learning rate"),
    "scale": mark("loss scale"),
    "num_backwards": mark("backwards per step"),
    "epoch": mark("epoch"),
    "clip_coefficient": mark("what the clip multiplies gradients by"),
    "grad_norm": mark("norm of all gradients"),
    "loss": mark("loss"),
}


@dataclass(frozen=True, slots=True)
class WhyText:
    """Findings, the birth, the depth, what changed before, and what was looked at."""

    answer: Answer

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        answer, width = self.answer, min(options.max_width, WIDEST)
        yield from opening(answer.verdict, width)
        shown = answer.findings[:MOST_FINDINGS]
        for finding in shown:
            yield Text()
            yield from finding_block(finding, width, evidence=False)
        more = len(answer.findings) - len(shown)
        if more > 0:
            yield Text()
            yield Text(translate("… more findings: {number}").format(number=count(more)))
        for part in (birth_lines(answer), looked_at(answer)):
            if part:
                yield Text()
            for line in part:
                yield from (Text(each) for each in wrap(line, width))
        yield from self._depth(width)
        yield Text()
        for line in change_lines(answer):
            yield from (Text(each) for each in wrap(line, width))

    def _depth(self, width: int) -> Iterator[RenderableType]:
        answer = self.answer
        if answer.depth:
            title = (
                translate("The signal on its way back, at step {step} (RMS, input first):")
                if answer.sampled >= 0
                else translate("The gradients of the layers at step {step} (norm, input first):")
            ).format(step=answer.sampled if answer.sampled >= 0 else answer.step)
            yield Text()
            yield from (Text(line, style="bold") for line in wrap(title, width))
            yield DepthPlot(answer.depth)
        said = [time_words(each) for each in answer.in_time]
        if answer.split is not None and not _is_in_a_finding(answer):
            said.insert(0, sentence(cause_of(answer.split).render()))
        for each in said:
            yield from (Text(line) for line in wrap(each, width))


def render(answer: Answer) -> RenderableType:
    """Return the answer as text."""
    return WhyText(answer)


def birth_lines(answer: Answer) -> list[str]:
    """Return where the first number arose that is not finite, unless a finding says so."""
    birth = answer.birth
    if birth is None:
        return []
    what = words(birth)[0].render()
    if any(what in each.cause.render() for each in answer.findings[:MOST_FINDINGS]):
        return []
    begin = translate("The first number that is not finite, at step {step}: {what}")
    return [begin.format(step=birth.iteration, what=what)]


def looked_at(answer: Answer) -> list[str]:
    """Return what was looked at where nothing was found."""
    if answer.findings:
        return []
    statuses = answer.verdict.statuses
    lines = [
        translate(
            "Looked at: {steps} steps, {parameters} parameters; rules that found nothing: {clear}, "
            "that could not be evaluated: {others}."
        ).format(
            steps=count(answer.run.num_rows),
            parameters=count(len(answer.run.parameters)),
            clear=sum(each.status == "clear" for each in statuses),
            others=sum(each.status == "not evaluated" for each in statuses),
        )
    ]
    if answer.birth is None:
        lines.append(translate("No number was seen to become NaN or infinite."))
    return lines


def change_lines(answer: Answer) -> list[str]:
    """Return what changed shortly before the step."""
    step = answer.step
    if not answer.changes:
        if step == 0:
            return [translate("It is the first step: nothing came before.")]
        return [
            translate(
                "In the {number} steps before step {step}, learning rate, batch, loss scale and "
                "clip did not change."
            ).format(number=min(WINDOW, step), step=step)
        ]
    head = translate("What changed up to step {step}:").format(step=step)
    return [head, *(change_line(each) for each in answer.changes)]


def change_line(change: Change) -> str:
    """Return one change."""
    name = translate(NAMES[change.name]) if change.name in NAMES else change.name
    if change.group >= 0:
        name = translate("{name} of group {group}").format(name=name, group=change.group)
    return translate("- {name}: {before} → {now} (step {step})").format(
        name=name, before=_number(change.before), now=_number(change.now), step=change.step
    )


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else number(value, 3)


def _is_in_a_finding(answer: Answer) -> bool:
    """Return whether a finding says what the layers do."""
    return any(_tells_signals(each) for each in answer.findings[:MOST_FINDINGS])


def _tells_signals(finding: Finding) -> bool:
    return any(each.statistic == "signal_gain" for each in finding.evidence)
