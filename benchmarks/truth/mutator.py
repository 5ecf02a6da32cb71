"""A kind of fault: how to put it into a program, how to prove it, what a finding must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.truth.edit import Edited, Program
from benchmarks.truth.oracle import Oracle


@dataclass(frozen=True)
class Mutator:
    """One kind of fault.

    Its mend is code or a number, `mends`, where one statement or one number of the program is at
    fault, and what it should be does not depend on what only the author knows. It is not where the
    program has to change in several places that belong together, where there are several right
    mends (another activation, another initialisation, another design of the network or of its
    losses), or where the data are at fault.
    """

    name: str
    fault: str  # its class, as in the table of cases
    rules: tuple[str, ...]  # names of the rules that are right about it, the proper one first
    mutate: Callable[[Program], Edited | None]
    oracle: Oracle  # the culprits' names when the fault shows, else None
    near: str = ""  # besides the changed lines, a line of the mutant that matches is a right place
    mends: bool = True
    advice: str = ""  # what the advice or its excerpt has to hold; empty: not judged


def mutator(
    name: str,
    fault: str,
    rules: str,
    mutate: Callable[[Program], Edited | None],
    oracle: Oracle,
    *,
    near: str = "",
    advice: str = "",
    mends: bool = True,
) -> Mutator:
    """Make a mutator; `rules` are names with spaces between."""
    return Mutator(name, fault, tuple(rules.split()), mutate, oracle, near, mends, advice)
