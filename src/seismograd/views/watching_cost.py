"""The measured share of the training's time that watching took."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.views.values import number

SMALL = 0.02
"""A share of the time that needs no explanation: the default budget."""


SHORT_S = 5e-3
"""A step of which even a small cost is a large share."""
EVERY = 10
"""For which `--every` is told what it would save."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Seconds of the whole run that went into what an option leaves out, as they were measured."""

    light_s: float = 0.0  # --level light
    every_s: float = 0.0  # --every EVERY


def watching_cost(run: Run, left_out: LeftOut | None = None) -> str | None:
    """Return a sentence with the time per step spent in seismograd between the first step and the
    last, and its share; `None` when there are not two.

    A large share is that of a tiny step, since the cost depends on the parameters and not on the
    batch, which a second sentence says. The one-time work until the first step is over (looking for
    models and names) is given separately. `left_out`: what a run of short steps could leave out.
    """
    num_steps = len(run.steps) - 1
    if num_steps < 1:
        return None
    spent_s = float(run.steps["overhead_s"][1:].sum())
    wall_s = float(run.steps["time_s"][-1] - run.steps["time_s"][0])
    if not (spent_s > 0 and wall_s > 0):
        return None
    said = translate(
        "Overhead: {spent} per step ({percent} of the {wall} that a step takes), plus {first} at "
        "the start."
    ).format(
        spent=seconds(spent_s / num_steps),
        percent=f"{100 * spent_s / wall_s:.1f}%",
        wall=seconds(wall_s / num_steps),
        first=seconds(float(run.steps["overhead_s"][0])),
    )
    if spent_s <= SMALL * wall_s:
        return said
    step_s = wall_s / num_steps
    why = (
        translate(
            "The share is large because the step is short: it depends on the number of "
            "parameters, not on the batch, and in steps of {long} or more would be below 2%."
        )
        if step_s < SHORT_S
        else translate(
            "It depends on the number of parameters, not on the batch: in steps of {long} or more "
            "it would be below 2%."
        )
    )
    sentences = [said, why.format(long=seconds(_rounded_up((spent_s / num_steps) / SMALL)))]
    if left_out is not None and step_s < SHORT_S:
        sentences += _smaller(left_out, spent_s / num_steps, step_s, num_steps)
    return (" " if said.isascii() else "").join(sentences)


def _smaller(left_out: LeftOut, spent_s: float, step_s: float, num_steps: int) -> list[str]:
    """Return what it would be, by step, where an option left out what it can."""
    bare_s = step_s - spent_s
    sentences: list[str] = []
    for option, saved_s in (
        ("--level light", left_out.light_s / num_steps),
        (f"--every {EVERY}", left_out.every_s / num_steps),
    ):
        if 0 < saved_s < spent_s:
            rest_s = spent_s - saved_s
            sentences.append(
                translate("Without what {option} leaves out: {spent} ({percent}).").format(
                    option=option,
                    spent=seconds(rest_s),
                    percent=f"{100 * rest_s / (bare_s + rest_s):.1f}%",
                )
            )
    return sentences


def _rounded_up(time_s: float) -> float:
    """Return the time rounded up to one digit."""
    unit = 10.0 ** math.floor(math.log10(time_s))
    return math.ceil(time_s / unit) * unit


def seconds(time_s: float) -> str:
    """Return a time with three digits, in the unit that makes it readable."""
    if time_s < 0.1:
        return translate("{number} ms").format(number=number(1e3 * time_s, 3))
    if time_s < 600:
        return translate("{number} s").format(number=number(time_s, 3))
    return translate("{number} min").format(number=f"{time_s / 60:.0f}")
