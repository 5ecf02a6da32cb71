"""Say which updates the guard left out, and why."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from seismograd.analysis.birth_words import words
from seismograd.analysis.births import Births
from seismograd.i18n import say, translate
from seismograd.record.reader import Run
from seismograd.schema import Fact, FactKind, StepFlag
from seismograd.views.values import count, number, some

MOST_REASONS = 3


def num_guarded(run: Run) -> int:
    """Return in how many iterations the guard left out an update."""
    return int(np.count_nonzero(run.steps["flags"] & int(StepFlag.GUARDED)))


def guarded_lines(run: Run) -> Iterator[str]:
    """Yield how many updates were left out, and for the first ones why."""
    rows = np.flatnonzero(run.steps["flags"] & int(StepFlag.GUARDED))
    if not len(rows):
        return
    numbers = [str(step) for step in run.steps["iteration"][rows].tolist()]
    yield say(
        "the guard left out {number} of {total} {all:update|updates}, at {num:step|steps} {steps}",
        number=count(len(rows)),
        num=len(rows),
        total=count(run.num_rows),
        all=run.num_rows,
        steps=some(numbers),
    ).render()
    births = Births()
    for fact in run.facts:
        births.learn(fact)
    guarded = [fact for fact in run.facts if fact.kind == FactKind.GUARDED]
    for fact in guarded[:MOST_REASONS]:
        yield _reason(fact, births)


def _reason(fact: Fact, births: Births) -> str:
    step = fact.iteration
    if fact.text("reason") == "exploded":
        return translate(
            "step {step}: the norm of the gradients was {norm}, {times} times the usual {usual}"
        ).format(
            step=step,
            norm=number(fact.number("norm")),
            times=number(fact.number("norm") / fact.number("usual")),
            usual=number(fact.number("usual")),
        )
    birth = births.of_loss(step) or births.of_gradient(step)
    if birth is None:
        return translate("step {step}: the gradients were not finite").format(step=step)
    return translate("step {step}: the gradients were not finite: {what}").format(
        step=step, what=words(birth)[0].render()
    )
