"""Find losses that add a mean over many numbers and a plain sum over the numbers of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from seismograd.capture.graph.loss_reduction import MEAN, SUM, WITH_REDUCTION
from seismograd.capture.graph.loss_sums import ONE_NUMBER, addends
from seismograd.capture.graph.traversal import saved, shape_of, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.source.reduced_terms import summing_statement
from seismograd.schema import FactKind, Site

MAX_OPERATIONS = 64  # from a sum down to what it is of


class ReducedTerm(NamedTuple):
    """A term of a loss: the shape of what it is a mean or a sum of, and what one of these numbers
    is multiplied by in the loss, whatever the sign.
    """

    shape: tuple[int, ...]
    weight: float
    is_mean: bool

    @property
    def numel(self) -> int:
        """How many numbers it is a mean or a sum of."""
        return prod(self.shape)


@dataclass(slots=True)
class MixedReductions:
    """Inspects the losses that it is given."""

    facts: Facts
    sites: Sequence[Site]

    def look(self, site: int, top: Any) -> None:
        """Inspect the graph, below `top`, of a loss whose backward begins at this call site."""
        found = mixed(top)
        if found is None:
            return
        mean, total = found
        statement = None if site < 0 else summing_statement(self.sites[site].file)
        self.facts.report(
            FactKind.MIXED_REDUCTIONS,
            site=site,
            mean=mean.numel,
            summed=total.numel,
            samples=total.shape[0],
            times=total.weight / mean.weight,
            place="" if statement is None else statement.place,
            text="" if statement is None else statement.text,
        )


def mixed(top: Any) -> tuple[ReducedTerm, ReducedTerm] | None:
    """Return a mean over several numbers of each sample and a sum over numbers of the same samples
    that a loss adds up: the pair of which a number in the sum counts the most against one in the
    mean.
    """
    terms = list(_terms(top))
    pairs = [
        (mean, total)
        for mean in terms
        for total in terms
        if mean.is_mean and not total.is_mean and mean.numel > mean.shape[0] == total.shape[0]
    ]
    return max(pairs, key=lambda pair: pair[1].weight / pair[0].weight, default=None)


def _terms(top: Any) -> Iterator[ReducedTerm]:
    """Yield the terms of a loss that are a whole mean or a whole sum over at least two samples,
    multiplied by known numbers at most.
    """
    for node, _, factor in addends(top):
        if factor and shape_of(node) in ONE_NUMBER:
            term = _reduced(node, node.name(), abs(factor))
            if term is not None and term.shape and term.shape[0] > 1:
                yield term


def _reduced(node: Any, name: str, factor: float) -> ReducedTerm | None:
    below = source(node)
    shape = shape_of(below) if below is not None else ()
    if name in WITH_REDUCTION:
        is_mean = node._saved_reduction == MEAN
        if not is_mean and node._saved_reduction != SUM:
            return None
        if name.startswith("NllLoss"):  # one number for each target
            target = saved(node, "target")
            shape = () if target is None else tuple(target.shape)
    elif name in ("MeanBackward0", "SumBackward0"):
        is_mean = name == "MeanBackward0"
    else:
        return None
    if not is_mean and _is_of_weights(below):
        return None
    return ReducedTerm(shape, factor / prod(shape) if is_mean else factor, is_mean)


def _is_of_weights(node: Any) -> bool:
    """Return whether a sum is over the numbers of parameters, as a penalty on weights is."""
    shape, stack, num = shape_of(node), [node], 0
    while stack and num < MAX_OPERATIONS:
        each = stack.pop()
        num += 1
        if each is None:
            continue
        leaf = getattr(each, "variable", None)
        if leaf is not None and tuple(leaf.shape) == shape:
            return True
        if shape_of(each) == shape:
            stack.extend(below for below, _ in each.next_functions)
    return False
