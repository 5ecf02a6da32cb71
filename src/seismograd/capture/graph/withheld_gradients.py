"""Find out why parameters that a graph has shown have no gradient: custom autograd Functions that
return none for an input that requires one, modules that others have replaced, and graphs that lead
to them no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.custom_functions import (
    backward_site,
    custom_functions,
    nodes_below,
)
from seismograd.capture.graph.traversal import LEAF, GraphLeaf, leaves_in_order
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind

LOOKS_APART = 8  # a look comes after an eighth of the backwards before it


@dataclass(slots=True)
class WithheldGradients:
    """Looks for parameters of optimizers that a graph has shown and that have no gradient all the
    same. Where there are any, it listens to the custom Functions of the next backward, by hooks on
    nodes that return nothing, and has `take_in` look for parameters that took their place.
    """

    facts: Facts
    parameter_table: ParameterTable
    call_sites: CallSites
    take_in: Callable[[Sequence[GraphLeaf]], object]
    is_listening: bool = False
    is_suspicious: bool = False  # the next backward is listened to
    next_look: int = 1
    _windows: Sequence[OptimizerWindow] = ()
    _withheld: dict[Any, list[Any]] = field(default_factory=dict[Any, list[Any]])
    _undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    _reported: set[str] = field(default_factory=set[str])
    _in_graph: set[int] = field(default_factory=set[int])  # of a backward that is listened to
    _left_out: dict[int, int] = field(default_factory=dict[int, int])  # with their optimizer

    def may_look(self, number: int) -> bool:
        """Return whether this backward, from 1, is looked at."""
        return number >= self.next_look or self.is_suspicious or self.is_listening

    def backward_begins(
        self, number: int, tops: list[Any], windows: Sequence[OptimizerWindow]
    ) -> None:
        """A backward begins that is looked at, the one with this number."""
        self._stop()
        if number >= self.next_look:
            self.next_look = number + 1 + number // LOOKS_APART
        self._windows, self.is_listening = windows, True
        if not self.is_suspicious:
            return
        self.is_suspicious = False
        leaves = leaves_in_order(tops)
        self._in_graph = {id(leaf.tensor) for leaf in leaves}
        self.take_in(leaves)
        for node in custom_functions(tops):
            self._undo.append(node.register_hook(_listener(self._withheld, node)).remove)

    def backward_ends(self) -> None:
        """Report what was withheld, or note that something is missing."""
        withheld, windows, was_listening = self._withheld, self._windows, bool(self._undo)
        in_graph = self._in_graph
        self._stop()
        missing = {
            id(p): window.index
            for window in windows
            for p in window.held()
            if p.requires_grad
            and p.grad is None
            and self._left_out.get(id(p)) != window.index
            and self._was_shown(p)
        }
        if in_graph:
            self._report_left_out(windows, missing.keys() - in_graph)
        if not was_listening:
            self.is_suspicious = bool(missing)
            return
        for node, below in withheld.items():
            behind = [leaf for leaf in _leaves(below) if id(leaf) in missing]
            for index in dict.fromkeys(missing[id(leaf)] for leaf in behind):
                held = [leaf for leaf in behind if missing[id(leaf)] == index]
                self._report(node, index, self._names(held))

    def _report_left_out(self, windows: Sequence[OptimizerWindow], left_out: Set[int]) -> None:
        for window in windows:
            held = [p for p in window.held() if id(p) in left_out]
            if held:
                self._left_out.update((id(p), window.index) for p in held)
                self.facts.report(
                    FactKind.LEFT_OUT, optimizer=window.index, parameters=self._names(held)
                )

    def _was_shown(self, parameter: torch.Tensor) -> bool:
        (column,) = self.parameter_table.columns([parameter])
        return column >= 0 and self.parameter_table.parameters[column].depth is not None

    def _names(self, tensors: list[torch.Tensor]) -> list[str]:
        columns = sorted(self.parameter_table.columns(tensors))
        return [self.parameter_table.parameters[column].name for column in columns]

    def _report(self, node: Any, optimizer: int, names: list[str]) -> None:
        if self._reported.issuperset(names):
            return
        self._reported.update(names)
        self.facts.report(
            FactKind.GRADIENT_WITHHELD,
            site=backward_site(node, self.call_sites),
            optimizer=optimizer,
            parameters=names,
            function=node._forward_cls.__name__,
        )

    def _stop(self) -> None:
        undo, self._undo = self._undo, []
        self._withheld, self._windows, self.is_listening = {}, (), False
        self._in_graph = set()
        for each in undo:
            each()


def _listener(withheld: dict[Any, list[Any]], node: Any) -> Callable[[Any, Any], None]:
    def listen(returned: Any, given: Any) -> None:
        if any(each is not None for each in given):
            below = [
                source
                for (source, _), gradient in zip(node.next_functions, returned, strict=False)
                if source is not None and gradient is None
            ]
            if below:
                withheld[node] = below

    return listen


def _leaves(nodes: list[Any]) -> list[torch.Tensor]:
    """Return the leaf tensors below these nodes, or of them."""
    below = (node for node in nodes_below(nodes) if node._sequence_nr() == LEAF)
    return [leaf for node in below if (leaf := getattr(node, "variable", None)) is not None]
