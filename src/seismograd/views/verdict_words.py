"""The verdict in a sentence or two: what the rules found, and how the training went.

Green is for a training that learned: that no rule fired says nothing of a network that is dead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from seismograd.diagnosis.training_course import TrainingCourse, Trend
from seismograd.diagnosis.verdict import Verdict
from seismograd.i18n import mark, translate
from seismograd.views.values import count, number, severity_word

Tone = Literal["error", "warning", "info", "good", "neutral"]

TONE_STYLES: dict[str, str] = {
    "error": "bold red",
    "warning": "bold yellow",
    "info": "bold cyan",
    "good": "bold green",
    "neutral": "bold",
}

_TRENDS = {
    Trend.FELL: mark("The loss fell ({losses})."),
    Trend.FLAT: mark("The loss did not fall ({losses})."),
    Trend.NOISY: mark("The loss changed no more than its noise ({losses})."),
    Trend.ROSE: mark("The loss rose ({losses})."),
    Trend.UNBOUNDED: mark("The loss fell without a limit ({losses})."),
    Trend.GUESS: mark("The loss fell only to that of a guess ({losses})."),
    Trend.NOT_FINITE: mark("At the end the loss was not finite."),
    Trend.TOO_FEW: mark("The loss went {losses}: too few steps to tell whether it falls."),
    Trend.SEVERAL: mark("The losses of several optimizers add up to {losses}."),
    Trend.POLICY: mark(
        "The loss is one of log-probabilities times returns or advantages ({losses}): it does not "
        "show whether the training learned."
    ),
    Trend.REPLACED: mark(
        "The script replaces the gradients by others, so the losses ({losses}) do not show whether "
        "the training learned."
    ),
    Trend.NOT_RECORDED: mark("No step has a recorded loss."),
}
_WITHOUT_FINDINGS = {
    Trend.FELL: mark(
        "No problems found (rules evaluated: {number}), and the loss fell ({losses})."
    ),
    Trend.FLAT: mark("No rule fired, but the loss did not fall ({losses})."),
    Trend.NOISY: mark("No rule fired, but the loss changed no more than its noise ({losses})."),
    Trend.ROSE: mark("No rule fired, but the loss rose ({losses})."),
    Trend.UNBOUNDED: mark("No rule fired, but the loss fell without a limit ({losses})."),
    Trend.GUESS: mark("No rule fired, but the loss fell only to that of a guess ({losses})."),
    Trend.NOT_FINITE: mark("No rule fired, but at the end the loss was not finite."),
    Trend.TOO_FEW: mark(
        "No rule fired (rules evaluated: {number}); too few steps to tell whether the loss falls "
        "({losses})."
    ),
    Trend.SEVERAL: mark(
        "No rule fired (rules evaluated: {number}); the losses of several optimizers ({losses}) "
        "do not show whether the training learned."
    ),
    Trend.POLICY: mark(
        "No rule fired (rules evaluated: {number}); a loss of log-probabilities times returns or "
        "advantages ({losses}) does not show whether the training learned."
    ),
    Trend.REPLACED: mark(
        "No rule fired (rules evaluated: {number}); the script replaces the gradients by others, "
        "so the losses ({losses}) do not show whether the training learned."
    ),
    Trend.NOT_RECORDED: mark(
        "No rule fired (rules evaluated: {number}); without a recorded loss it is not known "
        "whether the training learned."
    ),
}


def num_evaluated(verdict: Verdict) -> int:
    """Return how many rules could look at the run."""
    return sum(each.status != "not evaluated" for each in verdict.statuses)


def tone(verdict: Verdict, course: TrainingCourse) -> Tone:
    """Return how to show the headline: "good" only for a training that learned."""
    for severity in ("error", "warning", "info"):
        if any(each.severity == severity for each in verdict.findings):
            return severity
    return "good" if course.learned and num_evaluated(verdict) else "neutral"


def headline(verdict: Verdict, course: TrainingCourse) -> str:
    """Return how many findings of which severity there are; without any, how the loss went."""
    if verdict.findings:
        severities = [finding.severity for finding in verdict.findings]
        counted = {severity: severities.count(severity) for severity in dict.fromkeys(severities)}
        return translate("Found: {list}").format(
            list=", ".join(f"{severity_word(each)} × {number}" for each, number in counted.items())
        )
    looked = num_evaluated(verdict)
    if looked == 0:
        return translate("No rule could be evaluated on this run.")
    return without_findings(course, looked)


def without_findings(course: TrainingCourse, num_rules: int) -> str:
    """Return the sentence for a run in which no rule found anything."""
    return translate(_WITHOUT_FINDINGS[course.trend]).format(
        losses=_losses(course), number=num_rules
    )


def course_lines(verdict: Verdict, course: TrainingCourse) -> Iterator[str]:
    """Yield how the training went, a sentence each; without the loss where the headline has it."""
    if not verdict.run.num_rows:
        return
    if verdict.findings or not num_evaluated(verdict):
        of_each = mark("The losses of several optimizers: {losses}.")
        sentence = of_each if course.by_optimizer else _TRENDS[course.trend]
        yield translate(sentence).format(losses=_losses(course))
    if not math.isnan(course.moved):
        yield translate("Weights that the last steps moved: {percent}.").format(
            percent=_percent(course.moved)
        )
    if course.num_zero:
        yield translate("Parameters whose last gradient is exactly zero: {zero} of {all}.").format(
            zero=count(course.num_zero), all=count(course.num_parameters)
        )


def _losses(course: TrainingCourse) -> str:
    if course.by_optimizer:
        return ", ".join(
            f"{each.optimizer}: {number(each.first_loss)} → {number(each.last_loss)}"
            for each in course.by_optimizer
        )
    peak = [course.peak_loss] if course.has_peak else []
    way = " → ".join(number(each) for each in (course.first_loss, *peak, course.last_loss))
    if math.isnan(course.guess_loss):
        return way
    guess = translate("a guess among {classes} classes is {loss}").format(
        classes=count(course.num_classes), loss=number(course.guess_loss)
    )
    return translate("{first}; {second}").format(first=way, second=guess)


def _percent(share: float) -> str:
    percent = 100 * share
    return "0%" if share == 0 else "<0.1%" if percent < 0.1 else f"{percent:.3g}%"
