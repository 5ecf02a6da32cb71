"""SG807 detached-state."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.mended_term import with_graph
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.parsed_source import parsed
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class DetachedState(FactRule):
    """The state of a recurrence is detached at each step, so no gradient flows back through time.

    What it finds
        `h = cell(x[t], h.detach())` in a loop over time whose states all go into one loss; the same
        with `.data`, a copy, or a block of `torch.no_grad()`.

    Why it hurts
        Each step learns only what its own input is good for. Nothing tells the recurrence what to
        keep for later steps, so the network forgets what it does not need at once, and the loss
        still falls by what can be learned without a memory.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later, for a weight that is used at {min_steps} steps or more and multiplied
        each time by numbers without a graph, where the same numbers, which are not all zero, have
        a graph elsewhere in that loss and come from the same weight at the step before. One check
        is enough, from step number {min_evaluated} on.

    False alarms
        Methods that train a recurrence without its past on purpose, such as eligibility
        propagation. Truncated backpropagation through time, which detaches once for several steps
        or calls backward at each, is no such case.

    What to try
        - Leave the state as it is within the loop over time.
        - Detach it once for each chunk, before that loop: `state = state.detach()`.
        - Where the gradient explodes over time, clip it instead.

    References
        - Werbos (1990), Backpropagation through time: what it does and how to do it.
        - Williams, Peng (1990), An efficient gradient-based algorithm for on-line training of
          recurrent network trajectories.
    """

    code: ClassVar[str] = "SG807"
    name: ClassVar[str] = "detached-state"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.DETACHED_STATE,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101",)

    min_evaluated: int = 1  # steps
    min_steps: int = 4  # of the recurrence

    def judge(self, fact: Fact) -> None:
        if fact.number("steps") < self.min_steps:
            return
        text = fact.text("text")
        self.found.add_or_extend(
            self.finding_of_fact(
                fact,
                say(
                    "the state that {name} is multiplied by comes without its graph at each of "
                    "{steps} steps{place}: no gradient flows back through time, and the network "
                    "learns nothing that it would have to remember",
                    name=fact.parameters[0] if fact.parameters else "?",
                    steps=int(fact.number("steps")),
                    place=f" ({fact.text('place')})" if fact.text("place") else "",
                ),
                say("keep the graph of the state within the loop over time"),
                _mended(text) or "state = cell(x[t], state)  # detach once, before the loop",
                evidence=(
                    Evidence("detached_state", "", fact.iteration, fact.number("steps"), 0.0),
                ),
            )
        )


def _mended(text: str) -> str:
    """Return a statement with the graph kept; as a comment where nothing is left to do."""
    mended = with_graph(text)
    tree = parsed(mended)
    match [] if tree is None else tree.body:
        case [ast.Assign(targets=[target], value=value)] if ast.unparse(target) == ast.unparse(
            value
        ):
            return f"# {text}"
        case _:
            return mended
