"""Faults that cut a part of the model off: left out, detached, rounded away."""

from __future__ import annotations

import re

import libcst as cst

from benchmarks.truth.edit import Edited, Place, Program, code
from benchmarks.truth.frameworks import LIBRARY_PARTS, method
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import GRAD, Trace, names_of, share, shows
from benchmarks.truth.training import optimizer_of


def children(program: Program, model: str) -> list[str]:
    """Return the attributes that hold layers of a model's class, in their order.

    Empty where the model is of no class of the program.
    """
    made = program.find(rf"{re.escape(model)} = (\w+)\(.*\)")
    name = re.fullmatch(r".* = (\w+)\(.*\)", made[0].text, re.DOTALL)[1] if made else ""
    own = method(program, "configure_optimizers") if model == "self" else None
    if own is not None:
        name = next(n.name.value for n in own.outer if isinstance(n, cst.ClassDef))
    found = list(LIBRARY_PARTS.get(name, ()))
    for place in program.find(r"self\.\w+ = (?!nn\.Parameter|nn\.\w*Loss).*nn\..*"):
        classes = [n.name.value for n in place.outer if isinstance(n, cst.ClassDef)]
        if classes == [name]:
            found.append(place.text.partition(" = ")[0].removeprefix("self."))
    return found


def left_out(program: Program) -> Edited | None:
    """Give the optimizer only the parts of the model that somebody remembered."""
    made = optimizer_of(program)
    if not made or "LBFGS" in program.source:
        return None
    _place, call, _, model = made
    parts = children(program, model)
    if len(parts) >= 2:
        rest = " + ".join(f"list({model}.{part}.parameters())" for part in parts[1:])
        return (
            program.edit({call.args[0].value: rest})
            if re.fullmatch(r"[\w.]+\.parameters\(\)", code(call.args[0].value))
            else None
        )
    if program.find(rf"{re.escape(model)} = nn\.Sequential\(.*\)") and re.fullmatch(
        r"[\w.]+\.parameters\(\)", code(call.args[0].value)
    ):
        return program.edit({call.args[0].value: f"{model}[2:].parameters()"})
    return None


def not_held(m: Trace, b: Trace) -> tuple[str, ...] | None:
    missing = m.reached - m.held
    names = set(names_of(m, missing)) - set(names_of(b, b.reached - b.held))
    return shows(bool(names), *sorted(names))


def replaced_late(program: Program) -> Edited | None:
    """Replace the last layer after the optimizer was made."""
    made = optimizer_of(program)
    if not made or program.find(r".*scheduler.*|sched = .*"):
        return None
    place, _, name, model = made
    if not name:
        return None
    linear = [c for c in children(program, model) if program.find(rf"self\.{c} = nn\.Linear\(.*\)")]
    if linear:
        target = f"{model}.{linear[-1]}"
    elif program.find(rf"{re.escape(model)} = nn\.Sequential\(.*nn\.Linear\([^()]*\),?\s*\)"):
        target = f"{model}[-1]"
    else:
        return None
    return program.edit(
        {
            place.node: [
                place.node,
                f"{target} = nn.Linear({target}.in_features, {target}.out_features)",
            ]
        }
    )


def forwards(program: Program) -> list[Place]:
    """Return the assignments in forward methods that go from a layer on to a later one."""
    found = []
    for place in program.find(r"(\w+) = .*self\.\w+\(.*\).*"):
        later = place.siblings[place.siblings.index(place.node) + 1 :]
        name = place.text.partition(" = ")[0]
        on = [n for n in later if re.search(rf"self\.\w+\(.*\b{name}\b", code(n))]
        if place.function == "forward" and on:
            found.append(place)
    return found


def detached(program: Program) -> Edited | None:
    places = forwards(program)
    if not places:
        return None
    name = places[-1].text.partition(" = ")[0]
    return program.edit({places[-1].node: [places[-1].node, f"{name} = {name}.detach()"]})


def cut_off(m: Trace, b: Trace) -> tuple[str, ...] | None:
    reached = set(names_of(m, m.reached))
    names = {n for n in names_of(b, b.reached & b.held) if n not in reached} & set(
        names_of(m, m.held)
    )
    return shows(bool(names), *sorted(names))


def no_grad_part(program: Program) -> Edited | None:
    places = forwards(program)
    return (
        program.edit({places[-1].node: [f"with torch.no_grad():\n    {places[-1].text}"]})
        if places and "\n" not in places[-1].text
        else None
    )


def rounded(program: Program, function: str) -> Edited | None:
    places = forwards(program)
    if not places:
        return None
    name = places[-1].text.partition(" = ")[0]
    return program.edit({places[-1].node: [places[-1].node, f"{name} = torch.{function}({name})"]})


def all_zero(m: Trace, b: Trace) -> tuple[str, ...] | None:
    """Return parameters whose gradient is zero at nearly each step, and was not in the base."""

    def zero(t: Trace) -> set[str]:
        indices = set(t.steps[-1]["params"]) if t.steps else set()
        return {t.name(i) for i in indices if share([g == 0 for g in t.series(i, GRAD)[1:]]) > 0.9}

    names = (zero(m) - zero(b)) - {""}
    return shows(bool(names), *sorted(names))


MAKES = r"\.parameters\(\)|optim"
GRAPH = (
    mutator(
        "layers left out of the optimizer",
        "param_not_in_optimizer",
        "parameter-not-optimized",
        left_out,
        not_held,
        near=MAKES,
        advice=r"parameters\(\)|add_param_group|optimizer",
    ),
    mutator(
        "layer replaced after the optimizer was made",
        "param_not_in_optimizer",
        "parameter-not-optimized",
        replaced_late,
        not_held,
        near=MAKES,
        advice=r"after|add_param_group|optimizer",
    ),
    mutator(
        "detach between layers",
        "no_grad_flow",
        "no-gradient parameter-not-optimized",
        detached,
        cut_off,
        advice=r"detach|no_grad",
    ),
    mutator(
        "no_grad around a layer",
        "no_grad_flow",
        "no-gradient",
        no_grad_part,
        cut_off,
        advice=r"detach|no_grad",
    ),
    mutator(
        "round between layers",
        "zero_gradient",
        "zero-gradient no-gradient",
        lambda p: rounded(p, "round"),
        all_zero,
        advice=r"round",
        mends=False,
    ),
    mutator(
        "sign between layers",
        "zero_gradient",
        "zero-gradient no-gradient",
        lambda p: rounded(p, "sign"),
        all_zero,
        advice=r"sign",
        mends=False,
    ),
)
