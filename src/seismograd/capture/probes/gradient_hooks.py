"""Measure the script's own gradient hooks that multiply every gradient by one number, or of which
more and more pile up on a parameter: the norms before and after them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import getattr_static
from types import CodeType, FunctionType, MethodType
from typing import Any, cast

import torch

from seismograd.capture.graph.traversal import LEAF, MAX_NODES
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.clearing_tracker import is_zero
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.schema import FactKind

SAME = 0.001  # how far the factors of several parameters may differ
MAX_PARAMETERS = 64


@dataclass(slots=True)
class _Measured:
    """One parameter with hooks, the norms of the gradients it received, and the undo. `of_all`: all
    that the optimizer holds have hooks; `num_piled` of its hooks run the same `code`.
    """

    parameter: torch.Tensor
    window: OptimizerWindow
    of_all: bool
    num_piled: int
    code: CodeType | None
    norms: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    stop: Callable[[], None] = lambda: None


class Hooks:
    """Observes a backward at the nodes in front of the parameters with hooks; does nothing where
    there are none.
    """

    def __init__(self, facts: Facts, call_sites: CallSites) -> None:
        self._facts, self._call_sites = facts, call_sites
        self._running: list[_Measured] = []

    def backward_begins(self, tops: list[Any], windows: Sequence[OptimizerWindow]) -> None:
        """Install the hooks for a backward that begins and may concern these windows."""
        self._stop()
        hooked: dict[int, _Measured] = {}
        for window in windows:
            held = [each for each in window.held() if each.requires_grad]
            of_all = bool(held) and all(each._backward_hooks for each in held)
            piles = [(each, *_pile(each)) for each in held if of_all or _has_several(each)]
            for parameter, num, code in piles[:MAX_PARAMETERS]:
                if (of_all or num > 1) and is_zero(parameter):
                    hooked[id(parameter)] = _Measured(parameter, window, of_all, num, code)
        if not hooked:
            return
        for key, edges in _edges_to(tops, hooked).items():
            if len(edges) == 1:  # of several the sum would be needed
                measured, (node, position) = hooked[key], edges[0]
                handle = node.register_hook(_listener(measured.norms, position))
                measured.stop = handle.remove
                self._running.append(measured)

    def backward_ends(self, site: int) -> None:
        """Report for each optimizer the factor by which the hooks on its parameters have multiplied
        their gradients, if it is one number.
        """
        running = self._running
        self._stop()
        found: dict[int, list[tuple[_Measured, float]]] = {}
        for each in running:
            grad = each.parameter.grad
            if grad is not None and len(each.norms) == 1 and float(each.norms[0]) > 0:
                factor = float(_norm(grad)) / float(each.norms[0])
                found.setdefault(each.window.index, []).append((each, factor))
        for optimizer, measured in found.items():
            first, factor = measured[0]
            factors = [number for _, number in measured]
            least, most = min(factors), max(factors)
            if not (least > 0 and math.isfinite(most) and most <= least * (1 + SAME)):
                continue
            if first.of_all:
                self._facts.report(
                    FactKind.HOOK_FACTOR,
                    site=site,
                    optimizer=optimizer,
                    factor=factor,
                    num=len(factors),
                )
            if first.num_piled > 1 and all(
                each.num_piled == first.num_piled for each, _ in measured
            ):
                self._facts.report(
                    FactKind.PILED_HOOKS,
                    site=self._site_of(first.code, site),
                    optimizer=optimizer,
                    hooks=first.num_piled,
                    factor=factor,
                    num=len(factors),
                )

    def _site_of(self, code: CodeType | None, site: int) -> int:
        """Return the index of the line that makes a hook; where the script does not have it, that
        of the backward.
        """
        if code is None or not self._call_sites.is_of_script(code.co_filename):
            return site
        return self._call_sites.at(code.co_filename, code.co_firstlineno, code.co_qualname)

    def _stop(self) -> None:
        running, self._running = self._running, []
        for each in running:
            each.stop()


def _has_several(parameter: torch.Tensor) -> bool:
    return sum(map(len, _hooks(parameter))) > 1


def _hooks(parameter: torch.Tensor) -> list[dict[int, Any]]:
    later = getattr(parameter, "_post_accumulate_grad_hooks", None)
    return [hooks for hooks in (parameter._backward_hooks, later) if hooks]


def _pile(parameter: torch.Tensor) -> tuple[int, CodeType | None]:
    """Return how many of a parameter's hooks run the code that most of them run, and that code."""
    hooks = [hook for each in _hooks(parameter) for hook in each.values()]
    codes = [code for code in map(_code, hooks) if code is not None]
    if not codes:
        return 0, None
    # of the same number the first one: equal code at several places is not the same
    places = [(code.co_filename, code.co_firstlineno, code) for code in codes]
    most = max(places, key=places.count)
    return places.count(most), most[2]


def _code(hook: Any) -> CodeType | None:
    """Return the code that a hook runs, behind what binds its arguments."""
    while isinstance(hook, partial):
        hook = hook.func
    function: Any = hook.__func__ if isinstance(hook, MethodType) else hook
    if not isinstance(function, FunctionType):
        function = getattr_static(cast("object", hook), "__call__", None)
    return function.__code__ if isinstance(function, FunctionType) else None


def _listener(norms: list[torch.Tensor], position: int) -> Callable[[Any, Any], None]:
    def listen(gradients: Any, _: Any) -> None:
        gradient = gradients[position] if position < len(gradients) else None
        if isinstance(gradient, torch.Tensor):
            norms.append(_norm(gradient))

    return listen


def _norm(gradient: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return gradient.detach().double().square().sum().sqrt()


def _edges_to(tops: list[Any], wanted: dict[int, _Measured]) -> dict[int, list[tuple[Any, int]]]:
    """Return the nodes that pass gradients to these leaves, and the index of each output."""
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    edges: dict[int, list[tuple[Any, int]]] = {}
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        for position, (below, _) in enumerate(node.next_functions):
            if below is None:
                continue
            if below._sequence_nr() == LEAF:
                leaf = getattr(below, "variable", None)
                if leaf is not None and id(leaf) in wanted:
                    edges.setdefault(id(leaf), []).append((node, position))
            elif below not in seen:
                seen.add(below)
                stack.append(below)
    return edges
