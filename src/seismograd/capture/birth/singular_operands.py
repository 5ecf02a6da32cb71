"""Hold what the operations between a model and its loss were given, where their derivative may be
infinite: after the backward pass nothing of that is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.birth.birth import BACKWARD, Birth, birth_of_fault
from seismograd.capture.birth.domain import backward_fault
from seismograd.capture.birth.operation import Operation, name_from, readable
from seismograd.capture.graph.traversal import LEAF, saved
from seismograd.measure.native import tensor_reads
from seismograd.tensors.isolation import without_user_modes
from seismograd.tensors.saved_tensors import SHOWS_DATA, saved_tensor

MAX_OPERATIONS = 24  # visited for each loss
MAX_LOSSES = 8  # between two steps
POWER, QUOTIENT = "PowBackward0", "DivBackward0"
LEAST_DIVISOR = 1e-3  # one over it is finite in each dtype
# name of the node: what decides whether its derivative is finite, and the settings it needs
KEPT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "SqrtBackward0": (("result",), ()),
    "RsqrtBackward0": (("result",), ()),
    "ReciprocalBackward0": (("result",), ()),
    "ExpBackward0": (("result",), ()),
    "LogBackward0": (("self",), ()),
    "Log2Backward0": (("self",), ()),
    "Log10Backward0": (("self",), ()),
    "Log1PBackward0": (("self",), ()),
    "AcosBackward0": (("self",), ()),
    "AsinBackward0": (("self",), ()),
    "AtanhBackward0": (("self",), ()),
    "ErfinvBackward0": (("self",), ()),
    "LogitBackward0": (("self",), ()),
    POWER: (("self",), ("exponent",)),  # but those in `_is_regular`, as of quotients
    "PowBackward1": (("self", "exponent"), ()),
    QUOTIENT: (("other",), ()),
    "HypotBackward0": (("result",), ()),
    "XlogyBackward0": (("other",), ()),
}


@dataclass(frozen=True, slots=True)
class HeldOperation:
    """An operation of a loss; `number` of its node."""

    name: str
    number: int
    tensors: dict[str, torch.Tensor]
    settings: dict[str, Any]


@dataclass(slots=True)
class LossOperands:
    """The operations of the losses since the last step."""

    losses: list[list[HeldOperation]] = field(default_factory=list["list[HeldOperation]"])

    def hold(self, tops: list[Any], after: int) -> None:
        """Hold those of the graphs below these nodes that were made after the operation with this
        number.
        """
        if tensor_reads.has_none(tops, after, LEAF, KEPT, MAX_OPERATIONS):
            return
        stack = tops.copy() if None not in tops else [top for top in tops if top is not None]
        seen: set[Any] = set(stack)
        held: list[HeldOperation] = []
        while stack and len(seen) <= MAX_OPERATIONS:
            node = stack.pop()
            number = node._sequence_nr()
            if number <= after or number == LEAF:
                continue
            name = node.name()
            wanted = KEPT.get(name)
            if wanted is not None and not _is_regular(node, name):
                held.append(_held(node, number, *wanted))
            for source, _ in node.next_functions:
                if source is not None and source not in seen:
                    seen.add(source)
                    stack.append(source)
        if held:
            self.losses.append(held)
            del self.losses[:-MAX_LOSSES]

    def birth(self, batch: int) -> Birth | None:
        """Return the first of them in the order of the backward pass whose derivative is not
        finite.
        """
        with without_user_modes():
            for loss in self.losses:
                for each in sorted(loss, key=lambda held: -held.number):
                    operation = _operation(each)
                    fault = backward_fault(operation)
                    if fault is not None:
                        rows = batch or _first_size(fault.given)
                        return birth_of_fault(operation, fault, BACKWARD, rows, each.number)
        return None


def _is_regular(node: Any, name: str) -> bool:
    """Return whether the derivative of an operation is finite at each number, as that of a square,
    or of a mean over a constant.
    """
    if name == POWER:
        exponent = node._saved_exponent
        return isinstance(exponent, int | float) and (exponent >= 1 or exponent == 0)
    if name != QUOTIENT or any(source is not None for source, _ in node.next_functions[1:]):
        return False
    divisor = saved(node, "other")
    if divisor is None or divisor.numel() != 1 or not divisor.is_cpu or divisor.is_complex():
        return False
    return LEAST_DIVISOR <= abs(float(divisor)) < math.inf


def _held(
    node: Any, number: int, names: tuple[str, ...], settings: tuple[str, ...]
) -> HeldOperation:
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        # what `saved_tensor` does, without a call in every step
        data = (
            getattr(getattr(node, f"_raw_saved_{name}", None), "data", None)
            if SHOWS_DATA
            else saved_tensor(node, name)
        )
        if isinstance(data, torch.Tensor):
            # without its graph, which goes when the training lets it go
            has_graph = type(data) is torch.Tensor and data.requires_grad
            tensors[name] = data.detach() if has_graph else data
    return HeldOperation(
        node.name(), number, tensors, {name: getattr(node, f"_saved_{name}") for name in settings}
    )


def _operation(held: HeldOperation) -> Operation:
    operands = {
        name: plain
        for name, tensor in held.tensors.items()
        if (plain := readable(tensor.detach())) is not None
    }
    return Operation(name_from(held.name), operands, held.settings, operands.pop("result", None))


def _first_size(given: torch.Tensor | None) -> int:
    return 0 if given is None or given.dim() == 0 else given.shape[0]
