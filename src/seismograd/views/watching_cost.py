"""The measured share of the training's time that watching took."""

from __future__ import annotations

from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.views.values import number


def watching_cost(run: Run) -> str | None:
    """Return a sentence with the time spent in seismograd between the first step and the last, and
    the share of it; `None` when there are not two.

    The one-time work until the first step is over (looking for models and names) is given
    separately.
    """
    if len(run.steps) < 2:
        return None
    spent_s = float(run.steps["overhead_s"][1:].sum())
    wall_s = float(run.steps["time_s"][-1] - run.steps["time_s"][0])
    if not (spent_s > 0 and wall_s > 0):
        return None
    said = translate(
        "Overhead: {percent} of the time between the first and the last step ({spent} of {wall}), "
        "plus {first} at the start."
    )
    first_s = float(run.steps["overhead_s"][0])
    return said.format(
        percent=f"{100 * spent_s / wall_s:.1f}%",
        spent=seconds(spent_s),
        wall=seconds(wall_s),
        first=seconds(first_s),
    )


def seconds(time_s: float) -> str:
    """Return a time with three digits, in the unit that makes it readable."""
    if time_s < 0.1:
        return translate("{number} ms").format(number=number(1e3 * time_s, 3))
    if time_s < 600:
        return translate("{number} s").format(number=number(time_s, 3))
    return translate("{number} min").format(number=f"{time_s / 60:.0f}")
