"""A place where clearing is missing: whose gradients are used again there, and what to say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import BoolArray, iteration_at
from seismograd.analysis.script_names import stepped_of
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import Values, say


@dataclass(slots=True)
class MissingClearing:
    """One place where clearing is missing."""

    optimizer: int
    where: str
    first_step: int
    found: int  # the iteration in which it was found
    # a closure adds to the gradients that its earlier evaluations within the same step computed
    in_closure: bool = False
    last_step: int = -1
    names: list[str] = field(default_factory=list[str])
    # their names in the script, by index
    optimizers: dict[int, str] = field(default_factory=dict[int, str])
    # what the script writes where the first of them steps, and where the backward is
    stepped: str = ""
    backward: str = ""
    # where they are the gradients of other parameters: what the script calls the model of these
    lent_by: str = ""

    def is_of(self, optimizer: int, where: str) -> bool:
        """Return whether it is about this optimizer, or the line where that steps."""
        return optimizer in self.optimizers or where == self.where != ""

    def follow(self, block: SharedBlock, carried: BoolArray) -> bool:
        """Move on to the last iteration in which one of its parameters was carried; return whether
        there was one.
        """
        mine = [each.optimizer in self.optimizers for each in block.parameters]
        rows = np.flatnonzero(carried[:, mine].any(axis=1))
        self.last_step = iteration_at(block, int(rows[-1])) if len(rows) else self.last_step
        return len(rows) > 0

    def explanation(self) -> Explanation:
        """Return cause, advice and excerpt."""
        # the names of its optimizers, in their order
        held = list(dict.fromkeys(self.optimizers[each] for each in sorted(self.optimizers)))
        values: Values = {
            "step": self.first_step,
            "optimizer": held[0],
            "optimizers": ", ".join(held),
        }
        if self.in_closure:
            cause = say(
                "{optimizer:the} evaluates its closure several times per step, and the gradients "
                "of the earlier evaluations, computed with other weights, are still in the sum: "
                "the closure does not clear them before backward, which adds to what is there",
                **values,
            )
            advice = say(
                "call {optimizer}.zero_grad() first of all within the closure: clearing once "
                "before the step does not suffice",
                **values,
            )
            clearing = _clearing([stepped_of(self.stepped, held[0])])
            code = f"{clearing}  # the first line of the closure\n{self.backward}"
            return cause, advice, code.rstrip()
        if self.lent_by:
            values["model"] = self.lent_by
            cause = say(
                "since step {step} {optimizer:the} has used gradients that earlier steps had "
                "already used: they are those of {model}, the same tensors, and nothing clears "
                "them there before each backward, which adds to what is there",
                **values,
            )
            advice = say(
                "clear the gradients of {model} once per step, before backward: "
                "{optimizer}.zero_grad() sets only its own to None, and those of {model} stay",
                **values,
            )
            clearing = f"{self.lent_by}.zero_grad()"
            return cause, advice, f"{clearing}\n{self.backward or 'loss.backward()'}"
        if len(held) == 1:
            cause = say(
                "since step {step} {optimizer:the} has used gradients that earlier steps had "
                "already used: they are not cleared before each backward, which adds to what is "
                "there",
                **values,
            )
            advice = say(
                "clear the gradients once per step, before backward: call {optimizer}.zero_grad()",
                **values,
            )
        else:
            cause = say(
                "since step {step} {optimizers} have used gradients that earlier steps had already "
                "used: they are not cleared before each backward, which adds to what is there",
                **values,
            )
            advice = say(
                "clear the gradients once per step, before backward: call zero_grad() of each of "
                "{optimizers}",
                **values,
            )
        if len(held) == 1:
            held = [stepped_of(self.stepped, held[0])]
        clearing = _clearing(held)
        if not self.backward:
            return cause, advice, f"{clearing}  # before the backward"
        return cause, advice, f"{clearing}\n{self.backward}"


def _clearing(optimizers: list[str]) -> str:
    """Return the calls that clear the gradients of all of these."""
    lists = {re.sub(r"\[\d+\]$", "", each) for each in optimizers}
    if len(optimizers) > 1 and len(lists) == 1:  # items of one list
        return f"for optimizer in {lists.pop()}:\n    optimizer.zero_grad()"
    return "\n".join(f"{each}.zero_grad()" for each in optimizers)
