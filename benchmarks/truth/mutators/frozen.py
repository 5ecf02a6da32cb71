"""Faults that freeze or forget parts of a model."""

from __future__ import annotations

import re

from benchmarks.truth.edit import Edited, Program, code
from benchmarks.truth.mutator import mutator
from benchmarks.truth.mutators.graph import children, forwards
from benchmarks.truth.oracle import IDLE, Trace, oracle, share, shows
from benchmarks.truth.training import optimizer_of


def frozen_part(program: Program) -> Edited | None:
    """Freeze what was never trained."""
    made = optimizer_of(program)
    parts = children(program, made[3]) if made else []
    if not made or len(parts) < 2:
        return None
    return program.edit(
        {
            made[0].node: [
                f"for p in {made[3]}.{parts[0]}.parameters():\n    p.requires_grad = False",
                made[0].node,
            ]
        }
    )


def frozen_head(program: Program) -> Edited | None:
    """Freeze what the layers before it are trained through."""
    made = optimizer_of(program)
    parts = children(program, made[3]) if made else []
    if not made or len(parts) < 2:
        return None
    return program.edit(
        {made[0].node: [f"{made[3]}.{parts[-1]}.requires_grad_(False)", made[0].node]}
    )


def unfrozen_by_attribute(program: Program) -> Edited | None:
    """Freeze all but the head, then unfreeze by an attribute of the module: in vain."""
    made = optimizer_of(program)
    parts = children(program, made[3]) if made else []
    if not made or len(parts) < 2:
        return None
    model = made[3]
    lines = [
        f"{model}.requires_grad_(False)",
        f"{model}.{parts[-1]}.requires_grad_(True)",
        f"{model}.{parts[0]}.requires_grad = True",
    ]
    return program.edit({made[0].node: [*lines, made[0].node]})


def frozen_now(m: Trace, b: Trace) -> tuple[str, ...] | None:
    names = set(m.data["frozen"]) - set(b.data["frozen"])
    return shows(bool(names) and m.learned() > 1.05 * b.learned(), *sorted(names))


def still_frozen(m: Trace, b: Trace) -> tuple[str, ...] | None:
    """Ask only of the first layer, which was to be unfrozen; the others are frozen on purpose."""
    made = b.of("optimizer")
    first = b.name(made[0]["held"][0]) if made and made[0]["held"] else ""
    return frozen_now(m, b) if first in m.data["frozen"] else None


def misspelt(program: Program) -> Edited | None:
    made = optimizer_of(program)
    parts = children(program, made[3]) if made else []
    if not made or len(parts) < 2:
        return None
    return program.edit(
        {
            made[0].node: [
                f"for p in {made[3]}.{parts[0]}.parameters():\n    p.require_grad = False",
                made[0].node,
            ]
        }
    )


def still_moves(m: Trace, b: Trace) -> tuple[str, ...] | None:
    return shows(set(m.data["frozen"]) == set(b.data["frozen"]) and m.losses[:3] == b.losses[:3])


def made_in_forward(program: Program) -> Edited | None:
    """Make a layer anew in each forward pass."""
    for place in forwards(program):
        for call in program.calls(r"self\.\w+", place.node):
            layer = program.find(rf"{re.escape(code(call.func))} = nn\.Linear\((.*)\)")
            sizes = layer[0].text.partition(" = ")[2] if len(layer) == 1 else ""
            if re.fullmatch(r"nn\.Linear\(\d+, \d+\)", sizes):
                return program.edit({call.func: sizes})
            if sizes:
                own = code(call.func)
                return program.edit(
                    {call.func: f"nn.Linear({own}.in_features, {own}.out_features)"}
                )
    return None


def made_again(m: Trace, b: Trace) -> bool:
    return len({i for e in m.of("backward") for i in e["leaves"]}) > 2 * len(
        {i for e in b.of("backward") for i in e["leaves"]}
    )


def killed_units(program: Program) -> Edited | None:
    """Begin all units of a layer but two with biases that no input makes up for."""
    made = optimizer_of(program)
    if not made or "relu" not in program.source.lower():
        return None
    linear = [
        c for c in children(program, made[3]) if program.find(rf"self\.{c} = nn\.Linear\(.*\)")
    ]
    if len(linear) >= 2 and re.search(rf"relu\(self\.{linear[0]}\(", program.source):
        target = f"{made[3]}.{linear[0]}.bias"
    elif program.find(
        rf"{re.escape(made[3])} = nn\.Sequential\(\s*nn\.Linear\([^()]*\),\s*nn\.ReLU\(\).*"
    ):
        target = f"{made[3]}[0].bias"
    else:
        return None
    return program.edit(
        {
            made[0].node: [
                f"nn.init.constant_({target}.data[:-2], -30.0)",
                made[0].node,
            ]
        }
    )


def dead_rows(m: Trace, b: Trace) -> tuple[str, ...] | None:
    def dead(t: Trace) -> set[str]:
        return {
            t.name(i)
            for i in t.steps[-1]["params"]
            if share([x >= 0.93 for x in t.series(i, IDLE)]) > 0.9
        }

    names = dead(m) - dead(b) - {""}
    # In networks that work, half of the units are often dead: it has to do harm.
    return shows(bool(names) and m.final() > 1.2 * b.final(), *sorted(names))


FROZEN = (
    mutator(
        "frozen before it was trained",
        "frozen_by_mistake",
        "frozen-parameter",
        frozen_part,
        frozen_now,
        advice=r"requires_grad",
    ),
    mutator(
        "the last layer frozen",
        "frozen_by_mistake",
        "frozen-parameter",
        frozen_head,
        frozen_now,
        advice=r"requires_grad",
    ),
    mutator(
        "unfrozen by an attribute of the module",
        "frozen_by_mistake",
        "frozen-parameter",
        unfrozen_by_attribute,
        still_frozen,
        advice=r"requires_grad_\(",
    ),
    mutator(
        "requires_grad misspelt",
        "frozen_by_mistake",
        "frozen-parameter",
        misspelt,
        still_moves,
        advice=r"requires_grad",
    ),
    mutator(
        "layer made in forward",
        "parameter_remade",
        "parameter-remade parameter-not-optimized",
        made_in_forward,
        oracle(made_again),
        advice=r"__init__|once|optimizer",
        mends=False,
    ),
    mutator(
        "nearly all units of a layer dead",
        "dead_units",
        "dead-units",
        killed_units,
        dead_rows,
        mends=False,
    ),
)
