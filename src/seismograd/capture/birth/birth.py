"""What is known of the first number that is not finite, and which samples of the batch are at
fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.birth.domain import DomainFault
from seismograd.capture.birth.operation import Operation
from seismograd.schema import BirthReason, Origin

MAX_SAMPLES = 16  # that are listed
FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"
GRAPH, REPLAY = "graph", "replay"
INPUTS = frozenset({BirthReason.INPUT, BirthReason.OPERAND, BirthReason.TARGET})
WEIGHTS = frozenset({BirthReason.WEIGHT, BirthReason.EPS, BirthReason.UPDATE, BirthReason.WRITTEN})


@dataclass(frozen=True, slots=True)
class Birth:
    """The operation and what it was given. `rows`: which samples are at fault, `None` where it is
    not known; `number`: of its node in the graph, -1 for none; `made_by`: what computes the operand
    at fault, and what computes the operand of that, as far as the graph shows them; `logits`: what
    `logsigmoid` would be given in place of a logarithm.
    """

    operation: str
    reason: BirthReason
    phase: str = FORWARD
    operand: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    num: int = 0
    numel: int = 0
    rows: tuple[int, ...] | None = None
    batch: int = 0
    module: str = ""
    made_by: tuple[str, ...] = ()
    site: int = -1
    text: str = ""
    logits: str = ""
    stage: str = GRAPH
    number: int = -1
    problem: str = ""  # why the model was not called once more
    is_last: bool = False  # the operation is the loss itself

    @property
    def origin(self) -> Origin:
        """Return where the number came from, in the words of an event."""
        if self.reason in INPUTS:
            return Origin.INPUT
        if self.reason in WEIGHTS:
            return Origin.WEIGHT
        return Origin.LOSS if self.is_last else Origin.ACTIVATION

    def values(self) -> dict[str, float | str]:
        """Return it as the values of a fact."""
        rows = self.rows or ()
        return {
            "phase": self.phase,
            "operation": self.operation,
            "reason": str(self.reason),
            "operand": self.operand,
            "shape": " ".join(map(str, self.shape)),
            "dtype": self.dtype,
            "num": self.num,
            "numel": self.numel,
            "module": self.module,
            "samples": " ".join(map(str, rows[:MAX_SAMPLES])),
            "num_samples": float("nan") if self.rows is None else len(rows),
            "batch": self.batch,
            "made_by": " ".join(self.made_by),
            "text": self.text,
            "logits": self.logits,
            "stage": self.stage,
            "without_replay": self.problem,
        }


def birth_of_fault(
    operation: Operation, fault: DomainFault, phase: str, batch: int, number: int = -1
) -> Birth:
    """Return the birth that a fault of an operation is."""
    mask, given = fault.mask, fault.given
    made = Birth(operation.shown, fault.reason, phase, batch=batch, number=number)
    if given is not None:
        made = replace(made, **described(given))
    if mask is None:
        return made
    return replace(made, num=int(mask.sum()), numel=mask.numel(), rows=rows_of(mask, batch))


def described(tensor: Tensor) -> dict[str, Any]:
    """Return shape, dtype and size of a tensor as the fields of a birth."""
    return {
        "shape": tuple(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "numel": tensor.numel(),
    }


def rows_of(mask: Tensor, batch: int) -> tuple[int, ...] | None:
    """Return the samples that have a scalar at fault, where one dimension is the batch, alone or
    with the positions of each sample; `None` where none is  # (…) -> rows.
    """
    if batch < 1 or mask.dim() == 0 or mask.numel() == 0:
        return None
    first = mask.shape[0]
    if first % batch == 0 and first > 0:
        marked = mask.reshape(batch, -1).any(1)
    elif mask.dim() > 1 and mask.shape[1] == batch:  # time comes first
        marked = mask.transpose(0, 1).reshape(batch, -1).any(1)
    else:
        return None
    return tuple(int(row) for row in torch.nonzero(marked))


def batch_size(tensors: Iterable[Tensor]) -> int:
    """Return the size of the first dimension that most of these tensors have; 0 for none."""
    sizes: Sequence[int] = [each.shape[0] for each in tensors if each.dim() > 0]
    return Counter(sizes).most_common(1)[0][0] if sizes else 0


def nonfinite(tensor: Tensor) -> Tensor | None:
    """Return where a tensor is not finite; `None` where it is everywhere."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        return None
    mask = ~torch.isfinite(tensor)
    return mask if bool(mask.any()) else None
