"""Find the training's own statements in a program: its step, its backward, its optimizer."""

from __future__ import annotations

import re
from functools import cache

import libcst as cst

from benchmarks.truth.edit import Place, Program, code
from benchmarks.truth.frameworks import OPTIMIZER, framework_optimizer

STEP = r"(?:self\.)?(?:opt\w*|optim\w*|meta_opt|\w+_optimizer|first)\.step\((?:closure)?\)"
SCALED_STEP = r"(?:self\.)?scaler\.step\((?P<opt>[\w.]+)\)"
BACKWARD = r"(?:[\w.]+|.+)\.backward\(.*\)"
ZERO = r"[\w.]+\.zero_grad\(.*\)"
CLIP = r"(?:[\w.]+\.)?clip_grad_norm_\(.*\)"
SCHEDULE = r"(?:self\.)?(?:scheduler|sched|lr_scheduler)\.step\(.*\)"


def last(places: list[Place]) -> Place | None:
    return places[-1] if places else None


@cache
def step_of(program: Program) -> Place | None:
    """Return the last optimizer step that is taken in a loop or a function of its own."""
    return last(program.find(f"{STEP}|{SCALED_STEP}"))


def stepped(place: Place) -> str:
    """Return the expression of the optimizer that a step is of."""
    scaled = re.fullmatch(SCALED_STEP, place.text)
    return scaled["opt"] if scaled else place.text.rpartition(".step")[0]


@cache
def optimizer_of(program: Program) -> tuple[Place, cst.Call, str, str] | None:
    """Return the statement that makes the last optimizer, its call, its name, and its model's.

    In a framework's program the name is empty, and a Trainer may stand for its optimizer.
    """
    step = step_of(program)
    for place in reversed(program.find(r"[\w.]+ = .*")):
        name = place.text.partition(" = ")[0]
        owners = {p.function for p in program.find(rf"{re.escape(name)} = .*")}
        if step and place.function != step.function and step.function in owners:
            continue  # a function's own variable, and another function steps its own
        made = program.calls(OPTIMIZER, place.node)
        if made and code(made[0]) == place.text.partition(" = ")[2] and made[0].args:
            model = re.search(r"([\w.]+)\.parameters\(\)", code(made[0].args[0].value))
            if model:
                return place, made[0], name, model[1]
    return framework_optimizer(program)


def after_imports(program: Program) -> cst.BaseStatement:
    """Return the last import at the top of the file."""
    return [
        p.node for p in program.places if not p.outer and p.text.startswith(("import ", "from "))
    ][-1]
