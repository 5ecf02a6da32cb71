"""Faults in what depends on what: samples without a gradient, positions that see what lies ahead,
recurrences over the samples of a batch.
"""

from __future__ import annotations

from benchmarks.truth.edit import Edited, Program, code
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import Trace, oracle, share
from benchmarks.truth.training import last

FIRST = 10  # backwards that are compared with those of the base


def cut_sample(program: Program) -> Edited | None:
    """Draw a sample that has no gradient."""
    calls = program.calls(r"[\w.]+\.rsample")
    if calls:
        return program.edit({calls[-1].func: code(calls[-1].func).replace(".rsample", ".sample")})
    drawn = last(program.find(r"return mu \+ eps \* std"))
    sampled = "return torch.distributions.Normal(mu, std).sample()"
    return program.edit({drawn.node: [sampled]}) if drawn else None


def sizes(m: Trace, b: Trace) -> list[tuple[int, int]]:
    """Return the numbers of nodes of the first graphs, those that the base has beside them."""
    pairs = zip(m.of("backward")[:FIRST], b.of("backward")[:FIRST], strict=False)
    return [(mine["nodes"], theirs["nodes"]) for mine, theirs in pairs]


def way_lost(m: Trace, b: Trace) -> bool:
    """The first graphs have fewer nodes in the mutant, none has more, and all else is of one kind:
    as many backwards and steps.
    """
    pairs = sizes(m, b)
    return (
        len(m.of("backward")) == len(b.of("backward")) >= 20
        and all(mine <= theirs for mine, theirs in pairs)
        and any(mine < theirs for mine, theirs in pairs)
    )


def sees_ahead(program: Program) -> Edited | None:
    """Leave the causal mask out."""
    for name, value in (("is_causal", "False"), ("mask", "None")):
        found = [
            each.value
            for call in program.calls(r"F\.scaled_dot_product_attention|self\.\w+")
            for each in call.args
            if each.keyword is not None and each.keyword.value == name
        ]
        if found:
            return program.edit(dict.fromkeys(found, value))
    return None


def copies(m: Trace, b: Trace) -> bool:
    """It begins as the base does, and its loss falls far below the base's."""
    return m.finite and abs(m.losses[0] / b.losses[0] - 1) < 0.1 and m.final() < 0.6 * b.final()


def over_batch(program: Program) -> Edited | None:
    """Take the first dimension for time."""
    for call in reversed(program.calls(r"nn\.(?:GRU|LSTM|RNN)")):
        kept = [code(each).rstrip(", ") for each in call.args if "batch_first" not in code(each)]
        if len(kept) < len(call.args):
            return program.edit({call: f"{code(call.func)}({', '.join(kept)})"})
    return None


def other_steps(m: Trace, b: Trace) -> bool:
    """The losses differ from the first one on, and so do the sizes of nearly all graphs, which hold
    as many leaves: the recurrence makes another number of steps.
    """
    pairs = list(zip(m.of("backward")[:FIRST], b.of("backward")[:FIRST], strict=False))
    return (
        len(pairs) == FIRST
        and m.losses[0] != b.losses[0]
        and all(len(mine["leaves"]) == len(theirs["leaves"]) for mine, theirs in pairs)
        and share([mine != theirs for mine, theirs in sizes(m, b)]) > 0.8
    )


DEPENDENCE = (
    mutator(
        "sample for rsample",
        "sample_without_gradient",
        "sample-without-gradient",
        cut_sample,
        oracle(way_lost),
        near=r"sample\(",
        advice=r"rsample",
    ),
    mutator(
        "causal mask left out",
        "wrong_attention_mask",
        "wrong-attention-mask",
        sees_ahead,
        oracle(copies),
        near=r"attention|mask|cross_entropy|\.backward\(",
        advice=r"causal",
    ),
    mutator(
        "recurrence over the samples of a batch",
        "recurrence_over_batch",
        "recurrence-over-batch",
        over_batch,
        oracle(other_steps),
        near=r"nn\.(?:GRU|LSTM|RNN)|self\.(?:rnn|gru|lstm)\(",
        advice=r"batch_first",
    ),
)
