"""Read the gradients of one process before they are averaged with those of the others: this names
the process that a NaN comes from.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from seismograd.capture.names.parameter_groups import held_by
from seismograd.exception_origin import raised_by_user
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.dtensor import distributed_tensor
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

EVERY = 10
NUM_BETWEEN = 8


@dataclass(frozen=True, slots=True)
class LocalGradients:
    """L2 norm and number of non-finite scalars of the inspected local gradients; `all` of the
    parameters, or some.
    """

    norm: float
    nonfinite: int
    all: bool


class PreReductionProbe:
    """Inspects local gradients through tensor hooks, which run before DDP's reducer does.

    A hook on every parameter at every step would cost too much, so all are inspected on every tenth
    iteration, and on the others `NUM_BETWEEN` of them in turn, the same ones on every process. The
    hooks exist only while a backward runs. Squares and non-finite scalars are summed over the
    backwards of an iteration. Sharded gradients (DTensor) are not seen before their reduction.
    """

    def __init__(self) -> None:
        self._parameters: dict[int, list[weakref.ref[torch.Tensor]]] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._norms: list[torch.Tensor] = []
        self._counts: list[torch.Tensor] = []
        self._all = False
        self._broken = False
        self._overhead_s = 0.0

    def learn(self, optimizer: torch.optim.Optimizer) -> None:
        """Inspect this optimizer's parameters from the next backward on."""
        held = held_by(optimizer)
        known = self._parameters.get(id(optimizer))
        if known is None or len(known) != len(held):
            self._parameters[id(optimizer)] = [weakref.ref(p) for p in held]

    def backward_begins(self, iteration: int) -> None:
        """Install the hooks."""
        self._remove()
        if self._broken:
            return
        listed = [
            p for refs in self._parameters.values() for ref in refs if (p := ref()) is not None
        ]
        listed = [
            p for p in listed if p.requires_grad and p.is_leaf and distributed_tensor(p) is None
        ]
        everything = iteration % EVERY == 0 or len(listed) <= NUM_BETWEEN
        self._all = everything
        for parameter in listed if everything else _rotation(listed, iteration):
            self._handles.append(
                cast(torch.utils.hooks.RemovableHandle, parameter.register_hook(self._look))
            )

    def backward_ends(self) -> None:
        """Remove the hooks; on a device the numbers stay there until they are requested."""
        self._remove()

    def take(self) -> LocalGradients | None:
        """Return the results since the last call, `None` for nothing."""
        norms, self._norms = self._norms, []
        counts, self._counts = self._counts, []
        if not norms:
            return None
        by_backward = torch.stack(norms).cpu()
        nonfinite = int(torch.stack(counts).sum()) if counts else 0
        norm = cast(torch.Tensor, torch.linalg.vector_norm(by_backward))
        return LocalGradients(float(norm), nonfinite, self._all)

    def take_overhead(self) -> float:
        """Return the seconds spent in the hooks since the last call."""
        spent_s, self._overhead_s = self._overhead_s, 0.0
        return spent_s

    def _look(self, gradient: torch.Tensor) -> None:
        """Inspect a gradient. Runs inside the backward: no failure here may reach it, only the
        program's own exceptions.
        """
        began = time.perf_counter()
        try:
            if is_capturing():
                return
            with without_user_modes():
                values = gradient.detach()
                if not is_readable(values):
                    return
                values = values.coalesce().values() if values.is_sparse else values
                values = torch.view_as_real(values) if values.is_complex() else values
                norm = cast(
                    torch.Tensor,
                    torch.linalg.vector_norm(
                        values if values.element_size() >= 4 else values.float()
                    ),
                )
                self._norms.append(norm.double())
                if norm.device.type != "cpu" or not math.isfinite(float(norm)):
                    self._counts.append((~torch.isfinite(values)).sum())
        except Exception as error:
            if raised_by_user(error):
                raise
            self._broken = True
        self._overhead_s += time.perf_counter() - began

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _rotation(listed: Sequence[torch.Tensor], iteration: int) -> list[torch.Tensor]:
    """Yield the parameter nearest the input, which a NaN from nearly anywhere reaches, and the next
    ones in turn.
    """
    num = len(listed)
    start = iteration * (NUM_BETWEEN - 1)
    positions = {0, *((start + i) % num for i in range(NUM_BETWEEN - 1))}
    return [listed[position] for position in sorted(positions)]
