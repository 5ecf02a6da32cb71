"""Judge what was said of a mutant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from benchmarks.truth.bench import Bench, digest
from benchmarks.truth.catalogue import Base
from benchmarks.truth.edit import Edited, Program
from benchmarks.truth.mend import mended
from benchmarks.truth.mutator import Mutator
from benchmarks.truth.oracle import Trace


@dataclass
class Trial:
    """What came of one mutant."""

    base: Base
    mutator: Mutator
    outcome: str = ""  # "judged", "does not run", "does not show", "timed out"
    names: list[str] = field(default_factory=list)  # rules of errors and warnings, in their order
    named: bool = False
    first: bool = False
    culprit: bool | None = None  # None: not named
    advice: bool | None = None  # None: not named, or not judged for this kind
    mended: bool | None = None  # None: not named, its mend is neither code nor number, not tried
    said: str = ""  # the right finding, for reading

    def row(self) -> dict[str, Any]:
        base, mutator = self.base, self.mutator
        own = {k: v for k, v in vars(self).items() if k not in ("base", "mutator")}
        of_base = {"base": base.name, "style": base.style, "half": base.half}
        return {**of_base, "mutator": mutator.name, "fault": mutator.fault, **own}


def judge(
    bench: Bench, base: Base, mutator: Mutator, edited: Edited, *, mend: bool = False
) -> Trial:
    """Prove that the fault shows, then ask seismograd, and compare; `mend`: try its advice too."""
    trial = Trial(base, mutator)
    healthy, faulty = bench.trace(base.path.read_text()), bench.trace(edited.source)
    if healthy is None or faulty is None:
        trial.outcome = "timed out"
        return trial
    if faulty.error:
        trial.outcome, trial.said = "does not run", faulty.error[:200]
        return trial
    culprits = proof(mutator, faulty, healthy)
    if culprits is None:
        trial.outcome = "does not show"
        return trial
    found = bench.findings(edited.source)
    if found is None:
        trial.outcome = "timed out"
        return trial
    trial.outcome = "judged"
    serious = [f for f in found if f["severity"] in ("error", "warning")]
    compare(trial, edited, culprits, serious)
    if mend and trial.named and mutator.mends:
        trial.mended = helps(bench, mutator, edited, healthy, serious)
    return trial


def helps(
    bench: Bench, mutator: Mutator, edited: Edited, healthy: Trace, found: list[dict[str, Any]]
) -> bool:
    """Return whether the fault is gone when the code of a right finding is applied."""
    right = (f for f in found if f["name"] in mutator.rules)
    texts = [text for f in right for text in mended(edited.source, f["where"], f["excerpt"])]
    traces = (bench.trace(text) for text in texts)
    # It has to go on training, too: of a program that stops nothing shows.
    trains = (t for t in traces if t and not t.error and len(t.steps) >= 5 and t.finite)
    helped = (proof(mutator, t, healthy) is None for t in trains)
    return any(helped)


def proof(mutator: Mutator, faulty: Trace, healthy: Trace) -> tuple[str, ...] | None:
    """Return the culprits when the mutator's oracle says that the fault shows, else None."""
    if not faulty.of("backward", "step"):
        return None
    try:
        return mutator.oracle(faulty, healthy)
    except (IndexError, ZeroDivisionError, ValueError):
        # Too short a trace for what the oracle asks: the fault ended the training.
        return None


def compare(
    trial: Trial, edited: Edited, culprits: tuple[str, ...], found: list[dict[str, Any]]
) -> None:
    """Fill in what of the findings is right."""
    rules = trial.mutator.rules
    trial.names = [f["name"] for f in found]
    right = [f for f in found if f["name"] in rules]
    trial.named, trial.first = bool(right), bool(found) and found[0]["name"] in rules
    if not right:
        return
    one = right[0]
    trial.said = " | ".join([one["cause"], one["advice"], one["where"], *one["parameters"][:3]])
    trial.culprit = any(at_culprit(f, edited, culprits, trial.mutator.near) for f in right)
    if trial.mutator.advice:
        words = " ".join(f"{f['advice']} {f['excerpt']}" for f in right)
        trial.advice = bool(re.search(trial.mutator.advice, words))


def at_culprit(
    finding: dict[str, Any], edited: Edited, culprits: tuple[str, ...], near: str
) -> bool:
    """Return whether a finding points at a parameter or at a line that is at fault."""
    lines = edited.source.splitlines()
    if any(_same(p, c) for p in finding["parameters"] for c in culprits):
        return True
    if any(_is_of(p, lines[k - 1]) for p in finding["parameters"] for k in edited.lines):
        return True
    line = re.search(r"train\.py:(\d+)", finding["where"] or "")
    if not line:
        return False
    number = int(line[1])
    changed = any(abs(number - changed) <= 1 for changed in edited.lines)
    return changed or bool(near and re.search(near, lines[number - 1]))


def _same(said: str, known: str) -> bool:
    """Return whether two names are of one parameter: either may begin at an outer object."""
    return said == known or said.endswith("." + known) or known.endswith("." + said)


def _is_of(parameter: str, line: str) -> bool:
    """Return whether a line is about a module that the parameter is of."""
    modules = [part for part in parameter.split(".")[:-1] if not part.isdecimal()]
    return any(re.search(rf"\.{re.escape(part)}\b", line) for part in modules)


def mutants(
    bases: Iterable[Base], mutators: tuple[Mutator, ...], limit: int = 0
) -> list[tuple[Base, Mutator, Edited]]:
    """Return the mutants there are, in turns of the mutators; `limit`: this many, 0 is all.

    Which ones come first is decided by names alone, so that a sample is the same each time.
    """
    pairs = {m.name: sorted(bases, key=lambda b: digest(b.name, m.name)) for m in mutators}
    found: list[tuple[Base, Mutator, Edited]] = []
    while any(pairs.values()):
        for mutator in mutators:
            edited = None
            while pairs[mutator.name] and edited is None:
                base = pairs[mutator.name].pop(0)
                edited = mutator.mutate(program(base))
            if edited is not None:
                found.append((base, mutator, edited))
            if limit and len(found) == limit:
                return found
    return found


@cache
def program(base: Base) -> Program:
    return Program(base.path.read_text())
