"""Parameters that get gradients and belong to no optimizer: what is counted of each, and its
description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seismograd.analysis.block_rows import iteration_at, site_of
from seismograd.analysis.script_names import (
    holder_of,
    module_of,
    optimizer_kind,
    optimizer_name,
    parameters_of,
)
from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import Values
from seismograd.rules.sg401.stray_words import (
    FOLLOWS,
    JUDGES,
    LEFT_OUT,
    OTHER_MODEL,
    REFERENCE,
    REPLACED,
    UNREGISTERED,
    copied,
    copy_of_trained,
    explanation,
    nameless,
    replaced_later,
)
from seismograd.schema import EventKind, Evidence, Parameter, RowBatch


@dataclass(frozen=True, slots=True)
class TrainedPlace:
    """Where the trained parameters are stepped, and by which optimizer."""

    where: str = ""
    optimizer: str = "optimizer"
    index: int = -1
    kind: str = ""  # its class

    @classmethod
    def of(cls, block: RowBatch, row: int) -> TrainedPlace:
        """Return the place of the step in a row."""
        index = int(block.steps["optimizer"][row])
        where = site_of(block, EventKind.STEP, iteration_at(block, row))
        return cls(where, optimizer_name(block, index), index, optimizer_kind(block, index))


@dataclass(slots=True)
class StrayCase:
    """The case that applies to all of them."""

    kind: int
    position: TrainedPlace
    first_step: int
    last_step: int
    num_trained: int
    names: set[str] = field(default_factory=set[str])
    ordered: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    last_reached: int = -1  # the last step at which what was replaced had a gradient
    silent: frozenset[str] = frozenset()  # of what the optimizers hold: without gradients by now
    is_copied: bool = False  # each backward reaches new copies of what the optimizer holds
    of: str = ""  # the trained parameter that the first is a copy of

    def add(
        self,
        fresh: Sequence[str],
        parameters: Sequence[Parameter],
        tallies: Mapping[str, StrayTally],
    ) -> None:
        """Add parameters; the evidence is that of the one nearest to the input."""
        self.names.update(fresh)
        order = {
            each.name: (math.inf if each.depth is None else each.depth, position)
            for position, each in enumerate(parameters)
        }
        self.ordered = tuple(sorted(self.names & order.keys(), key=lambda name: order[name]))
        if self.ordered[0] in fresh:
            self.evidence = tallies[self.ordered[0]].evidence(self.ordered[0])

    def leave_out(self, names: Sequence[str], tallies: Mapping[str, StrayTally]) -> None:
        """Take parameters out of the case."""
        self.names.difference_update(names)
        self.ordered = tuple(name for name in self.ordered if name in self.names)
        if self.ordered:
            self.evidence = tallies[self.ordered[0]].evidence(self.ordered[0])

    def strays(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """Return those of the parameters that are part of the finding, in its order."""
        by_name = {each.name: each for each in parameters}
        return [by_name[name] for name in self.ordered if name in by_name]

    def explanation(self, parameters: Sequence[Parameter], is_copied: bool) -> Explanation:
        """Return cause, advice and excerpt; `is_copied`: each backward reaches new copies of what
        the optimizer holds.
        """
        strays = self.strays(parameters)
        values: Values = {
            "num": len(self.ordered),
            "first": self.ordered[0],
            "optimizer": self.position.optimizer,
            "kind": self.position.kind or "SGD",
            "list": attribute_of(self.ordered),
            "held": self.num_trained,
            "gone": len(gone(parameters, self.silent)),
            "last": self.last_reached,
            "shape": " × ".join(map(str, strays[0].shape)) if strays else "",
            "model": strays[0].model or "model" if strays else "model",
            "module": module_of(strays),
            "parameters": parameters_of(strays, parameters),
            "of": self.of,
        }
        if self.kind in (FOLLOWS, REFERENCE):
            return copy_of_trained(self.kind, values)
        if is_copied:
            return copied(values)
        if self.kind == UNREGISTERED and all(not each.module for each in strays):
            return nameless(values)
        if self.kind == REPLACED and self.last_reached >= 0:
            return replaced_later(values)
        return explanation(self.kind, values)


@dataclass(slots=True)
class StrayTally:
    """What is known of one parameter that no optimizer holds."""

    first: int
    num: int = 0  # steps with a gradient
    last: int = -1
    norm: float = math.nan
    weight: float = math.nan  # norm, where it was first sampled
    sampled: int = -1
    num_samples: int = 0
    moved: bool = False

    def add(self, iteration: int, norm: float, weight: float) -> None:
        """Add another step."""
        self.num, self.last, self.norm = self.num + 1, iteration, norm
        if not math.isnan(weight):
            self.moved |= self.num_samples > 0 and not math.isclose(
                weight, self.weight, rel_tol=1e-9
            )
            self.num_samples += 1
            self.weight, self.sampled = weight, iteration

    def evidence(self, name: str) -> tuple[Evidence, ...]:
        """Return its gradient, and its weights then and now."""
        gradient = Evidence("grad_norm", name, self.last, self.norm, 0.0)
        return (
            (gradient,)
            if math.isnan(self.weight)
            else (gradient, Evidence("weight_norm", name, self.sampled, self.weight, self.weight))
        )

    def is_enough(self, min_steps: int) -> bool:
        """Return whether it is certain that nothing updates it; without samples of the weights that
        takes twice as long.
        """
        return (
            not self.moved
            and self.num > min_steps
            and (self.num_samples >= 2 or self.num > 2 * min_steps)
        )


def is_stray(parameter: Parameter, kinds: Mapping[int, str]) -> bool:
    """Return whether the graph of a loss shows it, and no real optimizer holds it (one without a
    class is the script itself).
    """
    held = parameter.optimizer is not None and bool(kinds.get(parameter.optimizer, ""))
    return parameter.trainable and parameter.depth is not None and not held


def kind_of(
    fresh: Sequence[Parameter],
    parameters: Sequence[Parameter],
    owned_gets_some: bool,
    silent: frozenset[str] = frozenset(),
) -> int:
    """Return what seems to have happened. `silent`: which parameters of optimizers have had no
    gradient since there are these.
    """
    if not owned_gets_some:
        return OTHER_MODEL
    if not all(parameter.registered for parameter in fresh):
        return UNREGISTERED
    if gone(parameters, silent) and all(parameter.root >= 0 for parameter in fresh):
        return REPLACED
    trained = [parameter for parameter in parameters if parameter.optimizer is not None]
    depths, last = (
        [each.depth for each in fresh if each.depth is not None],
        max((each.depth or 0 for each in trained), default=0),
    )
    after = len(depths) == len(fresh) and min(depths, default=0) > last
    apart = {each.root for each in fresh}.isdisjoint({each.root for each in trained} - {-1})
    return (
        JUDGES
        if apart
        and after
        and sum(each.numel for each in fresh) > sum(each.numel for each in trained)
        else LEFT_OUT
    )


def gone(parameters: Sequence[Parameter], silent: frozenset[str]) -> list[Parameter]:
    """Return the tensors of the optimizers that belong to no module and never had a gradient, or
    have none any more, while others do belong to one: modules that were replaced held them.
    """
    held = [parameter for parameter in parameters if parameter.optimizer is not None]
    if not any(each.root >= 0 for each in held):
        return []
    return [
        each
        for each in held
        if each.root < 0 and each.trainable and (each.depth is None or each.name in silent)
    ]


def attribute_of(names: Sequence[str]) -> str:
    """Return the attribute that holds the layers: `hidden` for `net.hidden.0.weight` and
    `net.hidden.0.bias`, `head` for `head.weight`.
    """
    parts = holder_of(names).split(".")
    numbered = next((position for position, part in enumerate(parts) if part.isdigit()), len(parts))
    return parts[numbered - 1] or "model" if numbered else "model"
