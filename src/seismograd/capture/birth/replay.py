"""Call a model once more with what it was last called with, and find where its first non-finite
number arises: in what it returns, or in the gradients that its backward pass makes of those it got.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.birth.birth import (
    BACKWARD,
    FORWARD,
    REPLAY,
    Birth,
    birth_of_fault,
    described,
    nonfinite,
    rows_of,
)
from seismograd.capture.birth.domain import backward_fault, forward_fault
from seismograd.capture.birth.held_calls import HeldCall, replaced, tensors_in
from seismograd.capture.birth.operation import Operation, operation_of
from seismograd.capture.birth.replay_mode import Place, ReplayMode, ReplayObstacleError, Spoiled
from seismograd.capture.birth.replay_obstacles import obstacle
from seismograd.capture.birth.replay_state import as_it_was
from seismograd.capture.graph.traversal import LEAF, MAX_NODES
from seismograd.capture.loop.call_sites import CallSites
from seismograd.exception_origin import raised_by_user
from seismograd.schema import BirthReason


@dataclass(frozen=True, slots=True)
class Replayed:
    """What calling a model once more showed; `problem`: why it could not be called, or showed
    nothing, as `without_replay` of a fact says it.
    """

    birth: Birth | None = None
    problem: str = ""


def replay(call: HeldCall, call_sites: CallSites, of_gradient: bool) -> Replayed:
    """Call a model once more, and backward where a gradient is looked for. Nothing of the model,
    its gradients or the random numbers is changed.
    """
    problem = obstacle(call)
    model = call.model()
    if problem or model is None:
        return Replayed(None, problem or "differs")
    try:
        with as_it_was(model, call):
            birth = _Repetition(model, call, call_sites).birth(of_gradient)
    except ReplayObstacleError as error:
        return Replayed(None, str(error))
    except Exception as error:  # also of the program's: the call may not bear repeating
        if raised_by_user(error):
            raise
        return Replayed(None, "raised")
    return Replayed(birth, "" if birth is not None else "differs")


class _Repetition:
    def __init__(self, model: torch.nn.Module, call: HeldCall, call_sites: CallSites) -> None:
        self._model, self._call, self._call_sites = model, call, call_sites
        self._batch = call.batch()

    def birth(self, of_gradient: bool) -> Birth | None:
        model, call = self._model, self._call
        weights = {
            name: parameter.detach().requires_grad_(parameter.requires_grad)
            for name, parameter in model.named_parameters()
        }
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        graphless = {
            id(tensor): tensor.detach().requires_grad_()
            for tensor in tensors_in((call.args, call.kwargs))
            if tensor.requires_grad
        }
        args, kwargs = replaced(call.args, graphless), replaced(call.kwargs, graphless)
        # not this frame, which holds the mode: a ring would keep the model alive
        outer = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        mode = ReplayMode(model, outer, self._call_sites)
        with mode:
            result = torch.func.functional_call(model, {**weights, **buffers}, args, kwargs)
        outputs = list(tensors_in(result))
        for output in outputs:
            spoiled = mode.of(output)
            if spoiled is not None:
                return self._forward(spoiled)
        if not of_gradient:
            return None
        given = [*weights.values(), *graphless.values()]
        return self._backward(outputs, [each for each in given if each.requires_grad], mode)

    def _forward(self, spoiled: Spoiled) -> Birth:
        operation = spoiled.operation
        if operation is None:
            made = self._of_given(spoiled.given)
        else:
            fault = forward_fault(operation)
            if fault is not None:
                made = birth_of_fault(operation, fault, FORWARD, self._batch)
            else:
                made = self._of_result(operation, operation.result)
        return _at(made, spoiled.place)

    def _of_given(self, given: Tensor | None) -> Birth:
        """Describe a tensor that was not finite before the first operation."""
        inputs = {tensor.untyped_storage()._cdata for tensor, _ in self._call.versions}  # pyright: ignore[reportPrivateUsage]
        is_input = given is not None and given.untyped_storage()._cdata in inputs  # pyright: ignore[reportPrivateUsage]
        made = Birth("", BirthReason.INPUT if is_input else BirthReason.OPERAND, batch=self._batch)
        bad = None if given is None else nonfinite(given)
        if given is None or bad is None:
            return made
        return replace(made, num=int(bad.sum()), rows=rows_of(bad, self._batch), **described(given))

    def _of_result(self, operation: Operation, result: Tensor | None) -> Birth:
        bad = None if result is None else nonfinite(result)
        made = Birth(operation.shown, BirthReason.UNKNOWN, batch=self._batch)
        if result is None or bad is None:
            return made
        is_large = not bool(torch.isnan(result).any()) or _overflows(operation, result)
        return replace(
            made,
            reason=BirthReason.OVERFLOW if is_large else BirthReason.UNKNOWN,
            num=int(bad.sum()),
            rows=rows_of(bad, self._batch),
            **described(result),
        )

    def _backward(
        self, outputs: Sequence[Tensor], weights: Sequence[Tensor], mode: ReplayMode
    ) -> Birth | None:
        gradients = self._call.gradients
        reached = [
            (outputs[number], gradient)
            for number, gradient in gradients.items()
            if number < len(outputs)
            and outputs[number].requires_grad
            and outputs[number].shape == gradient.shape
        ]
        if not reached or not weights:
            return None
        found: list[Birth] = []
        nodes = _below([output.grad_fn for output, _ in reached])
        handles = [node.register_hook(self._watching(node, mode, found)) for node in nodes]
        try:
            torch.autograd.grad(
                [output for output, _ in reached],
                weights,
                [gradient for _, gradient in reached],
                allow_unused=True,
            )
        finally:
            for handle in handles:  # they hold their nodes, which hold them
                handle.remove()
        return found[0] if found else None

    def _watching(
        self, node: Any, mode: ReplayMode, found: list[Birth]
    ) -> Callable[[Sequence[Tensor | None], Sequence[Tensor | None]], None]:
        def watch(made: Sequence[Tensor | None], given: Sequence[Tensor | None]) -> None:
            if found or any(each is not None and nonfinite(each) is not None for each in given):
                return
            for each in made:
                bad = None if each is None else nonfinite(each)
                if each is not None and bad is not None:
                    found.append(self._of_node(node, each, bad, mode))
                    return

        return watch

    def _of_node(self, node: Any, gradient: Tensor, bad: Tensor, mode: ReplayMode) -> Birth:
        operation = operation_of(node)
        fault = backward_fault(operation)
        rows = rows_of(bad, self._batch)
        if fault is not None:
            made = birth_of_fault(operation, fault, BACKWARD, self._batch)
            made = replace(made, rows=made.rows if rows is None else rows)
        else:
            made = replace(self._of_result(operation, gradient), phase=BACKWARD, rows=rows)
        place = mode.places.get(node._sequence_nr())
        return made if place is None else _at(made, place)


def _overflows(operation: Operation, result: Tensor) -> bool:
    """Return whether a sum of products of what an operation was given may be too large for its
    dtype: within one operation, infinities then cancel to NaN.
    """
    real = [each for each in operation.operands.values() if each.is_floating_point()]
    largest = max((float(each.abs().max()) for each in real if each.numel()), default=0.0)
    if not largest or not math.isfinite(largest):
        return False
    limit = math.log2(torch.finfo(result.dtype).max)
    return 2 * math.log2(largest) + math.log2(max(result.numel(), 1)) > limit


def _at(birth: Birth, place: Place) -> Birth:
    return replace(birth, site=place.site, text=place.text, module=place.module, stage=REPLAY)


def _below(tops: Sequence[Any]) -> list[Any]:
    """Return the operations of a graph, without its leaves."""
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    while stack and len(seen) < MAX_NODES:
        for source, _ in stack.pop().next_functions:
            if source is not None and source not in seen and source._sequence_nr() != LEAF:
                seen.add(source)
                stack.append(source)
    return list(seen)
