"""Faults of learning rates, their schedules, weight decay and precision."""

from __future__ import annotations

import itertools
import re
import statistics

import libcst as cst

from benchmarks.truth.edit import (
    SCHEDULE,
    Edited,
    Place,
    Program,
    after_imports,
    code,
    last,
    optimizer_of,
    step_of,
)
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import MOVED, WEIGHT, Trace, oracle

MADE = r"(?:self\.)?(?:scheduler|sched|lr_scheduler) = .*"


def schedule_of(program: Program) -> tuple[Place, Place] | None:
    """Return where the last schedule is made and where it steps."""
    made, steps = last(program.find(MADE)), last(program.find(SCHEDULE))
    return (made, steps) if made and steps else None


def lrs(t: Trace) -> list[float]:
    return [s["lr"] for s in t.steps]


def per_batch(program: Program) -> Edited | None:
    """Step a schedule of epochs for each batch."""
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
    new = re.sub(r"T_max=\w+", "T_max=2", place.text)
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


def learning_rate(program: Program) -> tuple[cst.BaseExpression, float] | None:
    """Return where the last optimizer's learning rate is written, and its value."""
    made = optimizer_of(program)
    if not made or "max_lr" in program.source:
        return None
    value = next((a.value for a in made[1].args if a.keyword and a.keyword.value == "lr"), None)
    if value is None:
        return None
    if not re.fullmatch(r"[\d.e-]+", code(value)):
        name = code(value).split(".")[-1]
        text = re.search(
            rf"(?:--{name}\", type=float, default=|\b{name} ?= ?)([\d.e-]+)", program.source
        )
        return None if text is None else (_number(program, text[1]), float(text[1]))
    return value, float(code(value))


def _number(program: Program, text: str) -> cst.BaseExpression:
    found: list[cst.BaseExpression] = []

    class Look(cst.CSTVisitor):
        def visit_Float(self, node: cst.Float) -> None:  # noqa: N802
            if node.value == text:
                found.append(node)

    program.module.visit(Look())
    return found[-1]


def rate_times(program: Program, factor: float) -> Edited | None:
    found = learning_rate(program)
    return program.edit({found[0]: f"{found[1] * factor:.6g}"}) if found else None


def too_high(m: Trace, b: Trace) -> bool:
    return m.finite and b.learned() < 0.75 and m.final() > 3 * b.final() and m.learned() > 0.9


def too_low(m: Trace, b: Trace) -> bool:
    return b.learned() < 0.75 and m.learned() > 0.95 and m.finite


def heavy_decay(program: Program) -> Edited | None:
    made = optimizer_of(program)
    if not made or "Muon" in program.source or "max_lr" in program.source:
        return None
    value = "1.0" if "SGD" in code(made[1].func) else "50.0"
    if not re.search(r"AdamW|SGD", code(made[1].func)):
        value = "1.0"
    old = next(
        (a.value for a in made[1].args if a.keyword and a.keyword.value == "weight_decay"), None
    )
    if old is not None:
        return program.edit({old: value})
    return (
        program.edit({made[0].node: [f"{made[0].text[:-1]}, weight_decay={value})"]})
        if "\n" not in made[0].text
        else None
    )


def shrinks(m: Trace, b: Trace) -> bool:
    mine, theirs = m.steps[-1], b.steps[-1]
    return (
        m.finite
        and m.total(mine, WEIGHT) < 0.5 * b.total(theirs, WEIGHT)
        and m.final() > 1.5 * b.final()
    )


def bfloat16_weights(program: Program) -> Edited | None:
    """Hold the weights in bfloat16 and take small steps."""
    made, rate = optimizer_of(program), learning_rate(program)
    if (
        not made
        or not rate
        or not program.find(rf"{re.escape(made[3])} = (?:nn\.Sequential\(.*|build\(\))")
        or "SGD" in code(made[1].func)
    ):
        return None
    if (
        "BatchNorm" in program.source
        or "lora" in program.source.lower()
        or "functional_call" in program.source
    ):
        return None
    model, changes = made[3], {rate[0]: "2e-6"}
    for call in program.calls(re.escape(model)):
        if len(call.args) == 1 and "autocast" not in program.source:
            changes[call] = f"{model}({code(call.args[0].value)}.to(torch.bfloat16)).float()"
    return program.edit({**changes, made[0].node: [f"{model}.to(torch.bfloat16)", made[0].node]})  # type: ignore[dict-item]


def rounds_away(m: Trace, b: Trace) -> bool:
    weights = [i for i in m.steps[0]["params"] if m.series(i, WEIGHT)[0] > 0.5]
    moved = [x for i in weights for x in m.series(i, MOVED)[5:]]
    return len(moved) > 20 and statistics.median(moved) < 0.2 and max(m.grad_norms) > 0


def spike(program: Program) -> Edited | None:
    """Feed one batch whose inputs were not normalised."""
    made = optimizer_of(program)
    step = step_of(program)
    if not made or step is None:
        return None
    for call in reversed(program.calls(re.escape(made[3]))):
        holder = program.holder(call)
        if (
            holder is None
            or len(call.args) != 1
            or holder.function != step.function
            or ("float" not in program.source and "randn" not in program.source)
        ):
            continue
        if re.search(r"ids|tokens|words|source|inputs = mask", code(call.args[0])):
            return None
        value = call.args[0].value
        top = after_imports(program)
        return program.edit(
            {
                value: f"({code(value)}) * (3000.0 if next(batch_number) == 70 else 1.0)",
                top: [top, "import itertools", "batch_number = itertools.count()"],
            }
        )
    return None


def one_stands_out(m: Trace, b: Trace) -> bool:
    norms = m.grad_norms
    return (
        m.finite
        and len(norms) > 75
        and max(norms[60:80]) > 30 * statistics.median(norms)
        and max(b.grad_norms[60:80]) < 10 * statistics.median(b.grad_norms)
    )


RATE = r"lr ?=|--lr|learning_rate"
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
    mutator(
        "learning rate far too high",
        "lr_too_high",
        "update-too-large",
        lambda p: rate_times(p, 100),
        oracle(too_high),
        near=RATE,
        advice=r"learning rate|lr",
    ),
    mutator(
        "learning rate far too low",
        "lr_too_low",
        "update-too-small lost-updates",
        lambda p: rate_times(p, 1e-5),
        oracle(too_low),
        near=RATE,
        advice=r"learning rate|lr",
    ),
    mutator(
        "weight decay far too large",
        "weight_decay_dominates",
        "weight-decay-dominates moves-without-gradient",
        heavy_decay,
        oracle(shrinks),
        near=r"weight_decay",
        advice=r"decay",
    ),
    mutator(
        "updates lost in bfloat16",
        "lr_too_low",
        "lost-updates update-too-small",
        bfloat16_weights,
        oracle(rounds_away),
        near=r"bfloat16",
        advice=r"float32|float",
    ),
    mutator(
        "a batch that was not normalised",
        "loss_spike",
        "gradient-spike",
        spike,
        oracle(one_stands_out),
    ),
)
