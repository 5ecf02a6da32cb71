"""Faults of schedules of the learning rate."""

from __future__ import annotations

import itertools
import re

from benchmarks.truth.edit import Edited, Place, Program
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import Trace, oracle
from benchmarks.truth.training import SCHEDULE, last, optimizer_of, step_of

MADE = r"(?:self\.)?(?:scheduler|sched|lr_scheduler) = .*"


def schedule_of(program: Program) -> tuple[Place, Place] | None:
    """Return where the last schedule is made and where it steps."""
    made, steps = last(program.find(MADE)), last(program.find(SCHEDULE))
    return (made, steps) if made and steps else None


def lrs(t: Trace) -> list[float]:
    return [s["lr"] for s in t.steps]


def per_batch(program: Program) -> Edited | None:
    """Step a schedule of epochs for each batch."""
    configured = last(program.find(r"return .*\"interval\": \"epoch\".*"))
    if configured is not None:
        text = configured.text.replace('"interval": "epoch"', '"interval": "step"')
        return program.edit({configured.node: [text]})
    found, step = schedule_of(program), step_of(program)
    if (
        not found
        or step is None
        or "OneCycle" in found[0].text
        or "Plateau" in found[0].text
        or "Lambda" in found[0].text
    ):
        return None
    if step.siblings is found[1].siblings or step.node in found[1].siblings:
        return None
    return program.edit({found[1].node: [], step.node: [step.node, found[1].text]})


def often(m: Trace, b: Trace) -> bool:
    return len(b.of("scheduler")) > 2 and len(m.of("scheduler")) > 5 * len(b.of("scheduler"))


def per_epoch(program: Program) -> Edited | None:
    """Step a schedule of batches for each epoch."""
    found = schedule_of(program)
    if not found or "OneCycle" not in found[0].text or len(found[1].loops) < 2:
        return None
    final = found[1].loops[0].body.body[-1]
    return program.edit({found[1].node: [], final: [final, found[1].text]})


def seldom(m: Trace, b: Trace) -> bool:
    return 2 < len(m.of("scheduler")) < len(b.of("scheduler")) / 5


def before_optimizer(program: Program) -> Edited | None:
    """Step the schedule first."""
    found, step = schedule_of(program), step_of(program)
    if not found or step is None or "Plateau" in found[0].text:
        return None
    if step.node in found[1].siblings:
        return program.edit({found[1].node: [], step.node: [found[1].text, step.node]})
    loops = found[1].loops
    return (
        program.edit(
            {found[1].node: [], loops[0].body.body[0]: [found[1].text, loops[0].body.body[0]]}
        )
        if loops
        else None
    )


def schedule_first(m: Trace, b: Trace) -> bool:
    def begins(t: Trace) -> str:
        # Making a schedule steps it once; that is heard from the same line as the making.
        order = [
            e["e"]
            for e in t.of("scheduler", "step")
            if not (e["e"] == "scheduler" and e["line"] in made(t))
        ]
        return order[0] if order else ""

    def made(t: Trace) -> set[int]:
        lines = [e["line"] for e in t.of("scheduler")]
        return {line for line in lines if lines.count(line) == 1}

    return begins(m) == "scheduler" and begins(b) == "step"


def wrong_mode(program: Program) -> Edited | None:
    place = last(program.find(r".* = .*ReduceLROnPlateau\(.*\)"))
    if place is None:
        return None
    new = (
        place.text.replace('mode="min"', 'mode="?"')
        .replace('mode="max"', 'mode="min"')
        .replace('mode="?"', 'mode="max"')
    )
    return program.edit({place.node: [new]}) if new != place.text else None


def falls_needlessly(m: Trace, b: Trace) -> bool:
    return lrs(m)[-1] < 0.3 * lrs(b)[-1]


def short_period(program: Program) -> Edited | None:
    place = last(program.find(MADE))
    if place is None:
        return None
    new = re.sub(r"T_max=[\w.]+", "T_max=2", place.text)
    new = re.sub(r"step_size=\d+, gamma=[\d.]+", "step_size=1, gamma=0.1", new)
    new = re.sub(r"gamma=0\.9\b", "gamma=0.2", new)
    new = re.sub(r"milestones=\[7, 9\], gamma=0.3", "milestones=[1, 2], gamma=0.01", new)
    return program.edit({place.node: [new]}) if new != place.text else None


def ends_early(m: Trace, b: Trace) -> bool:
    mine, theirs = lrs(m), lrs(b)
    rises = sum(y > 1.01 * x for x, y in itertools.pairwise(mine)) - sum(
        y > 1.01 * x for x, y in itertools.pairwise(theirs)
    )
    half = len(mine) // 2
    return rises > 1 or mine[half] < 0.02 * theirs[half]


def of_another(program: Program) -> Edited | None:
    """Make the optimizer again after the schedule was given the first one."""
    made, found = optimizer_of(program), schedule_of(program)
    if not made or not found or made[2] not in found[0].text or "Plateau" in found[0].text:
        return None
    return program.edit({found[0].node: [found[0].node, made[0].text]})


def without_effect(m: Trace, b: Trace) -> bool:
    stepped = {s["opt"] for s in m.of("step")}
    scheduled = [e["opt"] for e in m.of("scheduler")]
    return (
        len(scheduled) > 3
        and scheduled[-1] not in stepped
        and {s["opt"] for s in b.of("step")} >= {e["opt"] for e in b.of("scheduler")}
    )


SCHEDULED = (
    mutator(
        "schedule of epochs stepped each batch",
        "schedule_mismatch",
        "schedule-mismatch",
        per_batch,
        oracle(often),
        near=r"sched",
        advice=r"epoch|batch|step",
    ),
    mutator(
        "schedule of batches stepped each epoch",
        "schedule_mismatch",
        "schedule-mismatch",
        per_epoch,
        oracle(seldom),
        near=r"sched",
        advice=r"epoch|batch|step",
    ),
    mutator(
        "schedule stepped before the optimizer",
        "schedule_mismatch",
        "schedule-mismatch",
        before_optimizer,
        oracle(schedule_first),
        near=r"sched",
        advice=r"after|before",
    ),
    mutator(
        "plateau with the wrong mode",
        "schedule_mismatch",
        "schedule-mismatch",
        wrong_mode,
        oracle(falls_needlessly),
        near=r"sched|Plateau",
        advice=r"mode",
    ),
    mutator(
        "period far too short",
        "schedule_mismatch",
        "schedule-mismatch",
        short_period,
        oracle(ends_early),
        near=r"sched",
        advice=r"T_max|step_size|gamma|period|milestones",
    ),
    mutator(
        "schedule of a remade optimizer",
        "schedule_mismatch",
        "schedule-mismatch",
        of_another,
        oracle(without_effect),
        near=r"sched",
        advice=r"optimizer",
    ),
)
