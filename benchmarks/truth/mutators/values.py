"""Faults in what a reinforcement learner's values are trained by: advantages and bootstrapped
targets that keep their graph.
"""

from __future__ import annotations

import re

import libcst as cst

from benchmarks.truth.edit import Edited, Program, code
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import GRAD, WEIGHT, Trace, number, oracle

DISCOUNTED = re.compile(r"(?i)\bgamma \* |\brunning = ")


def live_advantage(program: Program) -> Edited | None:
    """Weigh log-probabilities by an advantage that was not detached."""
    for call in program.calls(r"(?:adv\w*|delta\w*)\.detach"):
        return program.edit({call: code(call.func).removesuffix(".detach")})
    # From the values as they are now; those of the rollout have no graph.
    taken = program.find(r"adv = b_advantages\[mb\]")
    if taken and "newvalue" in program.source:
        return program.edit({taken[-1].node: ["adv = b_returns[mb] - newvalue"]})
    return None


def live_target(program: Program) -> Edited | None:
    """Bootstrap a target from the network that is trained, with its graph."""
    for call in program.calls(r"\w*target\w*\.detach"):
        return program.edit({call: code(call.func).removesuffix(".detach")})
    if "ratio" in program.source:
        return None  # a graph of the rollout is freed by the first of many backwards
    for place in program.places:
        stops = re.match(r"with torch\.no_grad\(\):", place.text)
        if (
            stops
            and DISCOUNTED.search(place.text)
            and isinstance(place.node.body, cst.IndentedBlock)
        ):
            inner = [code(each) for each in place.node.body.body]
            own = [text.replace("target_net(", "policy_net(") for text in inner]
            return program.edit({place.node: own})
    return None


def more_is_trained(m: Trace, b: Trace) -> bool:
    """The graphs have more nodes than the base's; the first loss and the weights under it are the
    same, and the gradients are not.
    """
    mine, theirs = m.of("backward"), b.of("backward")
    if len(mine) < 20 or mine[0]["nodes"] <= theirs[0]["nodes"]:
        return False

    def beside(what: int) -> list[tuple[float, float]]:
        pairs = zip(m.steps[0]["params"].values(), b.steps[0]["params"].values(), strict=True)
        return [(number(one[what]), number(other[what])) for one, other in pairs]

    return (
        _near(number(mine[0]["loss"]), number(theirs[0]["loss"]))
        and all(abs(one - other) < 0.05 * max(one, other) for one, other in beside(WEIGHT))
        and any(not _near(one, other, 1e-2) for one, other in beside(GRAD))
    )


def _near(one: float, other: float, share: float = 1e-4) -> bool:
    return abs(one - other) <= share * abs(other)


NEAR = r"\.backward\(|(?i:gamma)|advantage|delta|log_?prob"
VALUES = (
    mutator(
        "advantage not detached",
        "undetached_value",
        "undetached-advantage",
        live_advantage,
        oracle(more_is_trained),
        near=NEAR,
        advice=r"detach|no_grad",
    ),
    mutator(
        "bootstrapped target with a graph",
        "undetached_value",
        "undetached-advantage",
        live_target,
        oracle(more_is_trained),
        near=NEAR,
        advice=r"detach|no_grad",
    ),
)
