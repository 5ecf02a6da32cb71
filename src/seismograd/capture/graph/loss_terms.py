"""Find the terms of a loss, their sizes, and the constant one: a number without a graph that is
added and changes no gradient.

Its value is what remains when the terms with a graph are subtracted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from seismograd.capture.graph.loss_sums import ADDING, addends
from seismograd.capture.graph.traversal import SAME_VALUES, passes, saved, shape_of, signed, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.computed_losses import zero_loss
from seismograd.capture.source.cut_terms import cut_term
from seismograd.schema import FactKind, Site
from seismograd.tensors.device_scalars import Scalar

MAX_TERMS = 64
MAX_SCALARS = 1 << 22  # terms of one loss that are recomputed

REDUCTIONS = ("none", "mean", "sum")  # by torch's numbers
KEEPS_ITS_RESULT = frozenset(
    {
        "ExpBackward0",
        "LogSoftmaxBackward0",
        "ReluBackward0",
        "SigmoidBackward0",
        "SoftmaxBackward0",
        "SqrtBackward0",
        "TanhBackward0",
    }
)
OF_ITSELF: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "AbsBackward0": torch.abs,
    "LogBackward0": torch.log,
}
OF_TWO: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "MulBackward0": torch.mul,
    "DivBackward0": torch.div,
}
ZERO = 1e-5  # of the loss: what remains where the terms with a graph are rounded


class NotKnownError(Exception):
    """A term cannot be recomputed from the tensors its operations saved."""


class LossTerms:
    """Inspects the losses that it is given, the first ones of each line of the script and later
    ones ever more rarely; reports the sizes of the terms and the value of the constant one.
    """

    def __init__(self, facts: Facts, sites: Sequence[Site]) -> None:
        self._facts, self._sites = facts, sites

    def look(self, site: int, number: int, loss: object, scale: Scalar | None) -> None:
        """Inspect a loss, already multiplied by `scale`, whose backward begins at this call site,
        for which it has this number, from 1.
        """
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            return
        num_terms = len(addends(loss.grad_fn))
        if num_terms > 1 and number == 1:
            self._facts.report(FactKind.SUMMED_LOSS, site=site, terms=num_terms)
        if num_terms > 1:
            self._report_sizes(site, loss, 1.0 if scale is None else scale.read())
        constant = constant_term(loss)
        if constant is None:
            if loss.grad_fn is not None and _has_constant(loss.grad_fn):
                self._report_unknown(site, loss, scale)
            return
        factor = 1.0 if scale is None else scale.read()
        value, total = constant / factor, float(loss.detach()) / factor
        is_zero = abs(value) <= ZERO * abs(total)
        backward = self._sites[site] if site >= 0 else None
        cut = None if backward is None else cut_term(backward.file, backward.line)
        self._facts.report(
            FactKind.CONSTANT_TERM,
            site=site,
            constant=value,
            loss=total,
            name=zero_loss(backward) if is_zero and backward is not None else "",
            place="" if cut is None else cut.place,
            text="" if cut is None else cut.text,
        )

    def _report_sizes(self, site: int, loss: torch.Tensor, factor: float) -> None:
        """Report how large the two largest terms are, where all are known."""
        terms = sizes_of_terms(loss)
        if len(terms) > 1:
            largest, following = sorted(terms, key=lambda term: term.size, reverse=True)[:2]
            self._facts.report(
                FactKind.TERM_SIZES,
                site=site,
                terms=len(terms),
                largest=largest.size / factor,
                next=following.size / factor,
                of_largest=largest.function,
                of_next=following.function,
            )

    def _report_unknown(self, site: int, loss: torch.Tensor, scale: Scalar | None) -> None:
        """Report a constant term whose value is not known, where the script shows what it is."""
        backward = self._sites[site] if site >= 0 else None
        cut = None if backward is None else cut_term(backward.file, backward.line, certain=True)
        if cut is not None:
            factor = 1.0 if scale is None else scale.read()
            self._facts.report(
                FactKind.CONSTANT_TERM,
                site=site,
                constant=math.nan,
                loss=float(loss.detach()) / factor,
                name="",
                place=cut.place,
                text=cut.text,
            )


def constant_term(loss: torch.Tensor) -> float | None:
    """Return the sum of the terms without a graph; `None` where there are none, or where the rest
    cannot be recomputed.
    """
    if loss.grad_fn is None or not _has_constant(loss.grad_fn):
        return None
    terms = _Terms()
    try:
        with torch.no_grad():
            return float(loss.detach()) - terms.value(loss.grad_fn)
    except NotKnownError:
        return None


class TermSize(NamedTuple):
    """The absolute value of a term, and the function that it is the result of."""

    size: float
    function: str


def sizes_of_terms(loss: torch.Tensor) -> list[TermSize]:
    """Return the sizes of the terms with a graph; none where one cannot be recomputed."""
    terms, found = _Terms(), list[TermSize]()
    try:
        with torch.no_grad():
            for node, _, factor in addends(loss.grad_fn):
                if factor is None:
                    return []
                found.append(TermSize(abs(factor * terms.value(node)), _function_of(node)))
    except NotKnownError:
        return []
    return found


def _function_of(node: Any) -> str:
    """Return the name of the function in torch.nn.functional, or of the operation."""
    words = re.sub("(?<=[a-z])(?=[A-Z])", "_", node.name().removesuffix("Backward0")).lower()
    return "cross_entropy" if words.startswith("nll_loss") else words


def _has_constant(top: Any) -> bool:
    stack, num = [top], 0
    while stack and num < MAX_TERMS:
        node = stack.pop()
        num += 1
        if node is None or shape_of(node) not in ((), (1,)):
            continue
        name = node.name()
        if name in ADDING and (source(node) is None or source(node, 1) is None):
            return True
        if (
            name in ADDING
            or name in ("MulBackward0", "DivBackward0", "NegBackward0")
            or name in SAME_VALUES
        ):
            stack.extend(below for below, _ in node.next_functions)
    return False


@dataclass(slots=True)
class _Terms:
    """Recomputes terms with a graph, up to a limit of terms and scalars; those without count as
    nothing.
    """

    num: int = 0
    num_scalars: int = 0

    def value(self, node: Any) -> float:
        """Return the value of a node of one number, without the constants in it."""
        self.num += 1
        if self.num > MAX_TERMS:
            raise NotKnownError
        name: str = node.name()
        if shape_of(node) in ((), (1,)):
            if name in ADDING:
                alpha = float(node._saved_alpha) * (1 if name == "AddBackward0" else -1)
                one, other = source(node), source(node, 1)
                return (0.0 if one is None else self.value(one)) + (
                    0.0 if other is None else alpha * self.value(other)
                )
            if name == "NegBackward0":
                return -self.value(source(node))
            if name in SAME_VALUES:
                return self.value(source(node))
            if name in OF_TWO and (source(node) is None or source(node, 1) is None):
                return self._scaled(node, name)
        return float(self._reduced(node, name))

    def _scaled(self, node: Any, name: str) -> float:
        """Return a term multiplied or divided by a number."""
        position = 1 if source(node) is None else 0
        number = self._kept(node, "other" if position == 0 else "self")
        if position == 1 and name == "DivBackward0":
            raise NotKnownError
        value = self.value(source(node, position))
        return value * float(number) if name == "MulBackward0" else value / float(number)

    def _reduced(self, node: Any, name: str) -> torch.Tensor:
        if name in ("MeanBackward0", "SumBackward0"):
            each = self._each(source(node))
            return each.mean() if name == "MeanBackward0" else each.sum()
        result = self._of_loss_function(node, name)
        if result is None or result.numel() != 1:
            raise NotKnownError
        return result

    def _each(self, node: Any) -> torch.Tensor:
        """Return the values of a node of many numbers, in any order."""
        if node is None:
            raise NotKnownError
        name: str = node.name()
        if name in KEEPS_ITS_RESULT:
            return self._kept(node, "result")
        if name in OF_ITSELF:
            return OF_ITSELF[name](self._kept(node, "self"))
        if name in OF_TWO:
            return OF_TWO[name](self._kept(node, "self"), self._kept(node, "other"))
        if name == "PowBackward0":
            return self._kept(node, "self") ** float(node._saved_exponent)
        if name == "NegBackward0":
            return -self._each(source(node))
        if passes(node) and name != "ExpandBackward0":
            return self._each(source(node))
        result = self._of_loss_function(node, name)
        if result is None:
            raise NotKnownError
        return result

    def _of_loss_function(self, node: Any, name: str) -> torch.Tensor | None:
        given = saved(node, "self") if name.endswith("Backward0") else None
        if given is None or not hasattr(node, "_saved_reduction"):
            return None
        one, target, how = (
            self._kept(node, "self"),
            self._kept(node, "target"),
            REDUCTIONS[int(node._saved_reduction)],
        )
        weight = saved(node, "weight")
        match name:
            case "NllLossBackward0" | "NllLoss2DBackward0":
                ignored = signed(node._saved_ignore_index)
                return F.nll_loss(one, target, weight, ignore_index=ignored, reduction=how)
            case "MseLossBackward0":
                return F.mse_loss(one, target, reduction=how)
            case "SmoothL1LossBackward0":
                return F.smooth_l1_loss(one, target, beta=node._saved_beta, reduction=how)
            case "HuberLossBackward0":
                return F.huber_loss(one, target, delta=node._saved_delta, reduction=how)
            case "BinaryCrossEntropyBackward0":
                return F.binary_cross_entropy(one, target, weight, reduction=how)
            case "BinaryCrossEntropyWithLogitsBackward0":
                pos_weight = saved(node, "pos_weight")
                return F.binary_cross_entropy_with_logits(
                    one, target, weight, reduction=how, pos_weight=pos_weight
                )
            case _:
                return None

    def _kept(self, node: Any, name: str) -> torch.Tensor:
        value = saved(node, name)
        if value is None or value.layout is not torch.strided:
            raise NotKnownError
        self.num_scalars += value.numel()
        if self.num_scalars > MAX_SCALARS:
            raise NotKnownError
        return value
