"""Faults in the terms of a loss: which of them have a graph, and how they weigh."""

from __future__ import annotations

import re

from benchmarks.truth.edit import Edited, Program
from benchmarks.truth.mutator import mutator
from benchmarks.truth.mutators.nonfinite import loss_place
from benchmarks.truth.oracle import Trace, oracle
from benchmarks.truth.training import last

TERM = r"(?:KLD|qf2_loss|v_loss|balance|soft|box_loss|obj_loss|task_loss|cls_loss|hard)"


def constant_term(program: Program, how: str) -> Edited | None:
    """Take one term of a sum as a number."""
    places = program.find(rf"(?:loss = |qf_loss = |return ).*\b{TERM}\b.*\+.*") + program.find(
        rf"(?:loss = |qf_loss = |return ).*\+.*\b{TERM}\b.*"
    )
    place = last([p for p in places if "zero_grad" not in p.text])
    if place is None:
        return None
    name = re.findall(rf"\b{TERM}\b", place.text)[-1]
    new = how.replace("X", name)
    return program.edit({place.node: [re.sub(rf"\b{name}\b", lambda _: new, place.text)]})


def smaller_graph(m: Trace, b: Trace) -> bool:
    """The graphs have fewer nodes than the base's, and the first loss is the same."""
    mine, theirs = m.of("backward"), b.of("backward")
    pairs = list(zip(mine, theirs, strict=False))
    first = next((k for k, (x, y) in enumerate(pairs) if x["nodes"] != y["nodes"]), None)
    if first is None or len(mine) < 20:
        return False
    same = abs(float(mine[first]["loss"]) - float(theirs[first]["loss"])) <= 1e-4 * abs(
        float(theirs[first]["loss"])
    )
    return same and mine[first]["nodes"] < theirs[first]["nodes"]


def made_a_leaf(program: Program) -> Edited | None:
    """Wrap the loss in a new tensor because backward complained."""
    found = loss_place(program)
    if not found:
        return None
    place, loss, _ = found
    return program.edit(
        {place.node: [place.node, f"{loss} = torch.tensor({loss}.item(), requires_grad=True)"]}
    )


def reaches_nothing(m: Trace, b: Trace) -> bool:
    late = m.of("backward")[-20:]
    held = m.held or b.held
    return len(late) == 20 and not any(held & set(e["leaves"]) for e in late)


def dominated(program: Program) -> Edited | None:
    """Weigh one of two losses ten thousand times the other."""
    places = program.find(r"loss_value = mse\(.*\)|qf2_loss = .*|box_loss = .*|errD_fake = .*")
    place = last(places)
    if place is None:
        return None
    name, _, value = place.text.partition(" = ")
    return program.edit({place.node: [f"{name} = 10000.0 * {value}"]})


def opposed(program: Program) -> Edited | None:
    """Train a task against another one."""
    place = last(program.find(r"loss_value = mse\(.*\)"))
    if place is not None:
        return program.edit(
            {place.node: ["loss_value = -0.9 * cross_entropy(logits, kinds[rows])"]}
        )
    # The real points are called real first, and false with the same words next.
    place = last(program.find(r"errD_fake = .*fake\.detach\(\).*"))
    swapped = place.text.replace("fake.detach()", "real") if place else ""
    return program.edit({place.node: [swapped]}) if place else None


def at_odds(m: Trace, b: Trace) -> bool:
    """Tell a second loss that is the first one's negative, or two that can only meet at ln 2."""
    if m.losses[1::2][0] < 0:
        return True
    late = [m.losses[k::3][-60:] for k in (0, 1)]
    return all(abs(sum(x) / len(x) - 0.693) < 0.02 for x in late)


def out_of_proportion(m: Trace, b: Trace) -> bool:
    return m.grad_norms[0] > 300 * b.grad_norms[0]


TERMS = (
    mutator(
        "a term by item()",
        "constant_loss_term",
        "constant-loss-term no-gradient",
        lambda p: constant_term(p, "X.item()"),
        oracle(smaller_graph),
        advice=r"item|detach|graph|tensor",
    ),
    mutator(
        "a term detached",
        "constant_loss_term",
        "constant-loss-term no-gradient",
        lambda p: constant_term(p, "X.detach()"),
        oracle(smaller_graph),
        advice=r"item|detach|graph|tensor",
    ),
    mutator(
        "the loss made a leaf",
        "no_grad_flow",
        "no-gradient never-stepped constant-loss-term",
        made_a_leaf,
        oracle(reaches_nothing),
        near=r"\.backward\(",
        advice=r"tensor|item|graph|loss",
    ),
    mutator(
        "one task outweighs the other",
        "task_conflict",
        "task-dominance",
        dominated,
        oracle(out_of_proportion),
        mends=False,
    ),
    mutator(
        "one task against the other",
        "task_conflict",
        "task-conflict",
        opposed,
        oracle(at_odds),
        mends=False,
    ),
)
