"""Follow gradients that the script hands to an optimizer: the tensors are the gradients of other
parameters, those of a worker's copy of the network, and stay there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from seismograd.capture.loop.clearing_tracker import is_zero
from seismograd.measure.native import tensor_reads
from seismograd.measure.native.tensor_reads import Signature

MAX_FOLLOWED = 8  # gradients of an optimizer
MAX_LENDERS = 128  # of them, for several workers
MAX_SEARCHES = 16  # for the parameters whose gradients they are
NUM_INSPECTED = 16  # steps after which a gradient that nobody has cleared is no longer read

Reference = weakref.ref[torch.Tensor]


@dataclass(slots=True)
class _Lender:
    """A parameter whose gradient a step has used, by that of the optimizer at this position; what
    it was then, `None` where something has changed it since, and whether a backward has added to
    it.
    """

    position: int
    parameter: Reference
    mark: Signature
    has_grown: bool = False

    def now(self) -> Signature:
        return tensor_reads.marks([self.parameter])[0]


class HandedGradients:
    """Knows which gradients of a step hold what an earlier one has used, although nothing of them
    was left at the optimizer's parameters in between.

    A tensor is known by its id, which nothing else has while it is the gradient of the same
    parameter; how often it was changed tells that nothing but the backward has touched it.
    `leaves`: what backwards have reached so far, as far as it is known.
    """

    def __init__(self, leaves: Sequence[torch.Tensor]) -> None:
        self.times = 0  # steps that used such gradients
        self._lenders: list[_Lender] = []
        self._leaves: list[Reference] = list(map(weakref.ref, leaves))  # since the last step
        self._num_searches = 0

    def backward_begins(self, leaves: Callable[[], Sequence[torch.Tensor]]) -> None:
        """Look which gradients are still what a step has used."""
        if self._num_searches < MAX_SEARCHES:
            self._num_searches += 1
            self._leaves += map(weakref.ref, leaves())
        for each in self._lenders:
            if not each.has_grown and each.mark is not None and not self._is_untouched(each):
                each.mark = None

    def backward_ends(self) -> None:
        """Note to which of them a backward has added."""
        for each in self._lenders:
            now = each.now()
            if each.mark is not None and now is not None:
                each.has_grown = now[0] == each.mark[0] and now[1] > each.mark[1]

    def at_step(self, parameters: Sequence[Reference]) -> list[bool] | None:
        """Return for each of these parameters whether its gradient holds what an earlier step used;
        `None` where none does.
        """
        grown = {(mark[0], each.position) for each in self._lenders if (mark := _grown(each))}
        if not grown:
            return None
        marks = tensor_reads.marks(list(parameters[:MAX_FOLLOWED]))
        held = {i for i, mark in enumerate(marks) if mark is not None and (mark[0], i) in grown}
        if not held:
            return None
        self.times += 1
        # where all the followed ones do, the others have gone the same way
        is_whole = len(held) == sum(mark is not None for mark in marks)
        return [i in held or (is_whole and i >= MAX_FOLLOWED) for i in range(len(parameters))]

    def step_ends(self, parameters: Sequence[Reference]) -> None:
        """Note whose gradients a step of these parameters has used."""
        marks = enumerate(tensor_reads.marks(list(parameters[:MAX_FOLLOWED])))
        used = {mark[0]: (i, mark) for i, mark in marks if mark is not None}
        for each in self._lenders:
            now = each.now()
            if now is not None and now[0] in used:
                each.position, each.mark = used[now[0]]
                each.has_grown = False
        known = {id(each.parameter()) for each in self._lenders}
        for reference in self._leaves if used else ():
            leaf = reference()
            if leaf is None or id(leaf) in known or len(self._lenders) >= MAX_LENDERS:
                continue
            position, mark = used.get(id(leaf.grad), (-1, None))
            if position >= 0:
                known.add(id(leaf))
                self._lenders.append(_Lender(position, reference, mark))
        self._leaves = []

    def lenders(self) -> list[torch.Tensor]:
        """Return the parameters whose gradients the step uses."""
        found = [each.parameter() for each in self._lenders if each.has_grown]
        return [each for each in found if each is not None]

    def _is_untouched(self, lender: _Lender) -> bool:
        parameter = lender.parameter()
        if parameter is None or lender.now() != lender.mark:
            return False
        # what is set to zero by way of `.data` counts no change
        return self.times >= NUM_INSPECTED or not is_zero(parameter)


def _grown(lender: _Lender) -> Signature:
    """Return what the gradient is now, if a backward has added to it; `None` otherwise."""
    return lender.now() if lender.has_grown else None
