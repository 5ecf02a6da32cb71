"""Find where a non-finite loss came from in the graph that its backward is about to use, from what
its nodes have saved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.birth.birth import (
    FORWARD,
    Birth,
    birth_of_fault,
    described,
    nonfinite,
    rows_of,
)
from seismograd.capture.birth.domain import forward_fault
from seismograd.capture.birth.graph_surroundings import batch_below, makers, reads_mask
from seismograd.capture.birth.operation import (
    MASKS,
    Operation,
    name_of,
    operation_of,
    position_of,
)
from seismograd.capture.graph.traversal import LEAF, MAX_HOPS, MAX_NODES, SAME_VALUES, passes
from seismograd.schema import BirthReason
from seismograd.tensors.isolation import without_user_modes

UNARY = (
    *("log", "log2", "log10", "acos", "asin", "atanh", "erfinv", "acosh", "log1p"),
    *("rsqrt", "lgamma", "digamma"),
)
# these never make a non-finite number of finite ones
HARMLESS = frozenset(
    {
        *("relu", "sigmoid", "tanh", "leaky_relu", "gelu", "silu", "elu", "hardtanh", "neg", "abs"),
        *("native_dropout", "clamp", "clamp_min", "clamp_max", "max", "min", "amax", "amin"),
        *("gather", "index", "index_select", "masked_select", "slice", "select", "unbind", "cat"),
    }
)
SUMS = ("add", "sub", "mul", "where")
MATRICES = {"mm": ("self", "mat2"), "bmm": ("self", "mat2"), "addmm": ("mat1", "mat2")}
PASSING = SAME_VALUES | {"SliceBackward0", "SelectBackward0", "ClampMinBackward0", "CatBackward0"}


@dataclass(slots=True)
class Seen:
    """A node, its operation, and where its result is not finite: `None` where that is unknown."""

    node: Any
    operation: Operation
    bad: bool | None


def birth_in_graph(top: Any, batch: int = 0) -> Birth | None:
    """Search the graph below a non-finite loss and return where its first non-finite number arose;
    `None` where nothing that was saved shows it.

    Reads only memory that is at hand: what was packed away (checkpointing, offloading) stays
    packed, and weights that sharding has freed cannot be read.
    """
    with without_user_modes():
        return _GraphSearch(batch).search(top)


class _GraphSearch:
    """One search. A node's result is known where it saved that, where a node that reads it did, or
    where it follows from the operands that were saved.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._read_as: dict[Any, bool] = {}  # node -> whether its result, as read, is not finite
        self._seen: list[Seen] = []
        self._operands: list[tuple[int, Birth]] = []  # by the number of the node that reads it

    def search(self, top: Any) -> Birth | None:
        self._walk(top)
        found = [(seen.node._sequence_nr(), seen) for seen in self._seen if seen.bad]
        found.sort(key=lambda pair: pair[0])
        first = found[0] if found else None
        if self._operands:
            number, operand = min(self._operands, key=lambda pair: pair[0])
            if first is None or number <= first[0]:
                return operand
        seen = self._overflowing() if first is None else self._behind(first[1])
        if isinstance(seen, Birth) or seen is None:
            return seen
        return self._of_operation(seen, is_last=seen.node is top)

    def _behind(self, seen: Seen) -> Seen | Birth:
        """Return what gave an operation that only passes such numbers on what it passes on: where
        that can only be a constant of a sum, the constant.
        """
        if seen.operation.name not in HARMLESS:
            return seen
        result, node = seen.operation.result, seen.node
        for _ in range(MAX_HOPS):
            below = node.next_functions[0][0] if node.next_functions else None
            if below is None or below._sequence_nr() == LEAF:
                return seen
            node, name = below, name_of(below)
            if name in HARMLESS or passes(below):
                continue
            operation = operation_of(below)
            has_constant = any(source is None for source, _ in below.next_functions)
            if result is not None and name in SUMS and has_constant and not _only_infinite(result):
                bad = nonfinite(result)
                assert bad is not None
                return self._of_operand(operation, "", bad, result, below._sequence_nr())
            return Seen(below, replace(operation, result=operation.result), True)
        return seen

    def _overflowing(self) -> Seen | None:
        """Return the first product of matrices that is too large for its dtype."""
        self._seen.sort(key=lambda seen: seen.node._sequence_nr())
        for seen in self._seen:
            names = MATRICES.get(seen.operation.name, ("", ""))
            one, other = (seen.operation.operands.get(name) for name in names)
            if one is None or other is None or one.dtype != other.dtype:
                continue
            product = one @ other
            if nonfinite(product) is not None:
                return Seen(seen.node, replace(seen.operation, result=product), True)
        return None

    def _walk(self, top: Any) -> None:
        if not self._batch:
            self._batch = batch_below(top)
        stack, reached = [top], {top}
        while stack and len(reached) < MAX_NODES:
            node = stack.pop()
            operation = operation_of(node)
            bad = self._judge(node, operation)
            self._seen.append(Seen(node, operation, bad))
            fine = self._take_operands(node, operation)
            if bad is False and node is not top:
                continue
            for position, (source, _) in enumerate(node.next_functions):
                if source is None or source in reached or position in fine:
                    continue
                reached.add(source)
                if source._sequence_nr() != LEAF:
                    stack.append(source)

    def _judge(self, node: Any, operation: Operation) -> bool | None:
        """Return whether the result of a node is not finite."""
        result = operation.result
        given = operation.operands.get("self")
        if result is None and operation.name in UNARY and given is not None:
            result = getattr(torch, operation.name)(given)
        if result is not None:
            return _is_bad(result, masked=operation.name == "log_softmax")
        read_as = self._read_as.get(node)
        if read_as is not None and not (read_as and node.name() in PASSING):
            return read_as
        return True if forward_fault(operation) is not None else None

    def _take_operands(self, node: Any, operation: Operation) -> set[int]:
        """Learn from what a node kept of its operands; return the inputs that are finite."""
        fine: set[int] = set()
        hidden = _hidden(operation)
        for name, tensor in operation.operands.items():
            position = position_of(operation.name, name)
            if name in MASKS:
                continue
            sources = node.next_functions
            source = sources[position][0] if 0 <= position < len(sources) else None
            bad = nonfinite(tensor)
            if source is not None:
                self._read_as[source] = bad is not None
                if bad is None:
                    fine.add(position)
            elif (bad is not None and position >= 0) or (name == "target" and bad is not None):
                number = node._sequence_nr()
                birth = self._of_operand(operation, name, bad, tensor, number)
                self._operands.append((number, birth))
        return fine | hidden

    def _of_operation(self, seen: Seen, is_last: bool) -> Birth:
        operation, number = seen.operation, seen.node._sequence_nr()
        fault = forward_fault(operation)
        if fault is not None and fault.reason is BirthReason.MASKED and not reads_mask(seen.node):
            large = self._overflowing()
            if large is not None and large is not seen:
                return self._of_operation(large, is_last=False)
            fault = None
        if fault is not None:
            made = birth_of_fault(operation, fault, FORWARD, self._batch, number)
        else:
            made = Birth(operation.shown, BirthReason.UNKNOWN, batch=self._batch, number=number)
            result = operation.result
            bad = None if result is None else nonfinite(result)
            if result is not None and bad is not None:
                reason = BirthReason.OVERFLOW if _only_infinite(result) else BirthReason.UNKNOWN
                made = replace(
                    made,
                    reason=reason,
                    num=int(bad.sum()),
                    rows=rows_of(bad, self._batch),
                    **described(result),
                )
        return replace(made, is_last=is_last, made_by=makers(seen.node, operation.name))

    def _of_operand(
        self, operation: Operation, name: str, bad: Tensor, tensor: Tensor, number: int
    ) -> Birth:
        return Birth(
            operation.shown,
            BirthReason.TARGET if name == "target" else BirthReason.OPERAND,
            operand=name,
            num=int(bad.sum()),
            rows=rows_of(bad, self._batch),
            batch=self._batch,
            number=number,
            **described(tensor),
        )


def _hidden(operation: Operation) -> set[int]:
    """Return the input of a `where` that gives nothing to its result."""
    condition = operation.operands.get("condition")
    if operation.name != "where" or condition is None:
        return set()
    is_true = bool(condition.all())
    return {1 if is_true else 0} if is_true or not bool(condition.any()) else set()


def _is_bad(result: Tensor, masked: bool = False) -> bool:
    """Return whether a result is not finite. The logarithm of an impossible, masked value is
    -inf.
    """
    bad = nonfinite(result)
    return bad is not None and not (masked and bool(torch.isneginf(result[bad]).all()))


def _only_infinite(result: Tensor) -> bool:
    return not bool(torch.isnan(result).any())
