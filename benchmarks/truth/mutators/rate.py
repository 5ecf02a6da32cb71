"""Faults of the learning rate, the weight decay, the precision, and of one batch."""

from __future__ import annotations

import re
import statistics

import libcst as cst

from benchmarks.truth.edit import Edited, Program, code
from benchmarks.truth.frameworks import argument, returned_losses, settings, with_argument
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import MOVED, WEIGHT, Trace, oracle
from benchmarks.truth.training import after_imports, optimizer_of, step_of


def hyperparameters(program: Program) -> cst.Call | None:
    """Return the call that is given the learning rate and the weight decay."""
    made = optimizer_of(program)
    if not made or argument(made[1], "model") is None:
        return made[1] if made else None
    return settings(program)


def learning_rate(program: Program) -> tuple[cst.BaseExpression, float] | None:
    """Return where the last optimizer's learning rate is written, and its value."""
    made, call = optimizer_of(program), hyperparameters(program)
    if not made or call is None or "max_lr" in program.source:
        return None
    value = argument(call, "lr", "learning_rate")
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
    call = hyperparameters(program)
    if call is None or "Muon" in program.source or "max_lr" in program.source:
        return None
    # Those of AdamW and Transformers are multiplied by the learning rate.
    value = "50.0" if re.search(r"AdamW|TrainingArguments", code(call.func)) else "1.0"
    return with_argument(program, call, "weight_decay", value)


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
    step, losses = step_of(program), returned_losses(program)
    if not made or (step is None and not losses):
        return None
    where = losses[-1].function if step is None else step.function
    for call in reversed(program.calls(re.escape(made[3]))):
        holder = program.holder(call)
        if (
            holder is None
            or len(call.args) != 1
            or holder.function != where
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


# A rate is applied where the optimizer steps; under a framework that is where the training starts.
STEPS = r"\.step\(|trainer\.(?:train|fit)\("
RATE = rf"lr ?=|--lr|learning_rate|{STEPS}"

RATES = (
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
        near=rf"weight_decay|{STEPS}",
        advice=r"decay",
    ),
    mutator(
        "updates lost in bfloat16",
        "lr_too_low",
        "lost-updates update-too-small",
        bfloat16_weights,
        oracle(rounds_away),
        near=rf"bfloat16|{STEPS}",
        advice=r"float32|float",
        mends=False,
    ),
    mutator(
        "a batch that was not normalised",
        "loss_spike",
        "gradient-spike",
        spike,
        oracle(one_stands_out),
        near=rf"\.backward\(|{STEPS}",
        mends=False,
    ),
)
