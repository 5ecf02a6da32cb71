"""Faults of initialisation and of activations."""

from __future__ import annotations

import re
import statistics

from benchmarks.truth.edit import Edited, Program
from benchmarks.truth.mutator import mutator
from benchmarks.truth.mutators.graph import all_zero
from benchmarks.truth.oracle import GRAD, SPREAD, Trace, names_of, share, shows
from benchmarks.truth.training import last, optimizer_of


def initialised(program: Program, lines: str) -> Edited | None:
    """Put `lines`, with MODEL in them, before the optimizer is made."""
    made = optimizer_of(program)
    if not made or "lora" in program.source.lower() or "Adapter" in program.source:
        return None
    if not program.find(r"import torch\.nn as nn|from torch import (?:.*, )?nn(?:, .*)?"):
        lines = lines.replace("nn.init", "torch.nn.init")
    return program.edit({made[0].node: [lines.replace("MODEL", made[3]), made[0].node]})


def symmetric(m: Trace, b: Trace) -> tuple[str, ...] | None:
    def alike(t: Trace) -> set[str]:
        names = set()
        for i in t.steps[-1]["params"] if t.steps else ():
            rows = [x for x in t.series(i, SPREAD) if x == x]
            if len(rows) >= 10 and share([x < 1e-4 for x in rows]) > 0.8:
                names.add(t.name(i))
        return names

    names = alike(m) - alike(b) - {""}
    return shows(bool(names), *sorted(names))


def stuck(m: Trace, b: Trace) -> tuple[str, ...] | None:
    return symmetric(m, b) or all_zero(m, b)


def exploded(m: Trace, b: Trace) -> tuple[str, ...] | None:
    """Every weight was made too large, so any of them is a right one."""
    return shows(
        bool(m.grad_norms)
        and m.finite
        and statistics.median(m.grad_norms[:10]) > 100 * statistics.median(b.grad_norms[:10]),
        *names_of(m, m.held),
    )


def deep_sigmoid(program: Program) -> Edited | None:
    """Put ten layers with sigmoids where there was one with another activation."""
    pair = r"nn\.Linear\((\w+), \1\), nn\.(?:ReLU|Tanh|GELU|SiLU|Sigmoid|LeakyReLU)\((?:0\.2)?\)"
    deep = r"*[layer for _ in range(10) for layer in (nn.Linear(\1, \1), nn.Sigmoid())]"
    for place in reversed(program.find(r".*nn\.Sequential\(.*\)")):
        text, count = re.subn(pair, deep, place.text, count=1)
        if count:
            return program.edit({place.node: [text]})
    return None


def vanished(m: Trace, b: Trace) -> tuple[str, ...] | None:
    """Measure the first matrix against the last one, a thousandth of what the base has."""

    def gain(t: Trace) -> float:
        weights = [i for i in t.steps[0]["params"] if t.name(i).endswith("weight")]
        if len(weights) < 2:
            return 1.0
        first, final = t.series(weights[0], GRAD), t.series(weights[-1], GRAD)
        return (
            statistics.median(x / y for x, y in zip(first[:40], final[:40], strict=True) if y)
            if any(final[:40])
            else 1.0
        )

    small = [
        i for i in m.steps[0]["params"] if max(m.series(i, GRAD)[:10]) < 1e-2 * m.grad_norms[0]
    ]
    return shows(
        len(m.steps) >= 20 and gain(m) < 1e-3 * gain(b), *names_of(m, {int(i) for i in small})
    )


def one_unit_softmax(program: Program) -> Edited | None:
    """Put a softmax over the only output."""
    calls = program.calls(r"nn\.Linear")
    single = [
        c
        for c in calls
        if len(c.args) == 2 and program.module.code_for_node(c.args[1].value) == "1"
    ]
    return (
        program.edit(
            {
                single[
                    -1
                ]: f"nn.Sequential({program.module.code_for_node(single[-1])}, nn.Softmax(dim=-1))"
            }
        )
        if single
        else None
    )


def nothing_moves(m: Trace, b: Trace) -> tuple[str, ...] | None:
    return all_zero(m, b)


def both_factors_zero(program: Program) -> Edited | None:
    place = last(
        program.find(r"nn\.init\.(?:kaiming_uniform_\(self\.lora_A, .*|normal_\(self\.down, .*)\)")
    )
    name = re.search(r"self\.\w+", place.text) if place else None
    return program.edit({place.node: [f"nn.init.zeros_({name[0]})"]}) if place and name else None


def relu_at_the_end(program: Program) -> Edited | None:
    """End the model with a ReLU whose input begins negative."""
    places = [
        p
        for p in program.find(r"return self\.\w+\((?:x|h|hidden|x\[:, 0\]|x\.flatten\(1\)|.*)\)")
        if p.function == "forward"
    ]
    place = last(places)
    if place is None or "," in place.text.replace(", 1)", "").replace("[:, ", "["):
        return None
    return program.edit(
        {place.node: [f"return torch.relu({place.text.removeprefix('return ')} - 8.0)"]}
    )


def no_step_moves(m: Trace, b: Trace) -> tuple[str, ...] | None:
    return shows(
        len(m.steps) >= 20
        and share([not g for g in m.grad_norms]) > 0.9
        and share([not g for g in b.grad_norms]) < 0.1,
        *names_of(m, m.held),
    )


START = (
    mutator(
        "all weights one constant",
        "symmetric_units",
        "symmetric-units",
        lambda p: initialised(
            p, "for param in MODEL.parameters():\n    nn.init.constant_(param, 0.02)"
        ),
        symmetric,
        near=r"constant_",
    ),
    mutator(
        "all weights zero",
        "symmetric_units",
        "symmetric-units zero-gradient",
        lambda p: initialised(p, "for param in MODEL.parameters():\n    param.data.zero_()"),
        stuck,
        near=r"zero_\(",
    ),
    mutator(
        "weights of standard deviation one",
        "exploding",
        "exploding-gradient update-too-large",
        lambda p: initialised(
            p,
            "for p in MODEL.parameters():\n    if p.dim() > 1:\n        nn.init.normal_(p)",
        ),
        exploded,
        mends=False,
    ),
    mutator(
        "ten layers of sigmoids",
        "vanishing",
        "vanishing-gradient gradient-underflow",
        deep_sigmoid,
        vanished,
        mends=False,
    ),
    mutator(
        "softmax over one unit",
        "zero_gradient",
        "zero-gradient wrong-loss-input",
        one_unit_softmax,
        nothing_moves,
        advice=r"softmax|sigmoid",
        mends=False,
    ),
    mutator(
        "both factors of an adapter zero",
        "zero_gradient",
        "zero-gradient",
        both_factors_zero,
        nothing_moves,
        advice=r"zero|factor",
    ),
    mutator(
        "ReLU as the last layer",
        "zero_gradient",
        "zero-gradient dead-units",
        relu_at_the_end,
        no_step_moves,
        advice=r"(?i)relu|last layer",
        mends=False,
    ),
)
