"""Find custom autograd Functions whose backward returns only zeros for a gradient that is not zero,
as a clipped straight-through estimator does for inputs that have all left the interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.custom_functions import backward_site, custom_functions
from seismograd.capture.graph.zero_gradient_origin import leaves_reached
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind
from seismograd.tensors.freed_memory import PLAIN_TYPES
from seismograd.tensors.isolation import without_user_modes

MAX_NAMES = 64
Answer = tuple[torch.Tensor, list[tuple[int, torch.Tensor]]]  # what it got, and what it returned


@dataclass(slots=True)
class FlatFunctions:
    """Listens to the custom Functions of a backward after a step with an all-zero gradient: of the
    first such ones, and ever more rarely.
    """

    facts: Facts
    parameter_table: ParameterTable
    call_sites: CallSites
    is_listening: bool = False
    _num: Counter[int] = field(default_factory=Counter[int])  # by optimizer
    _tops: list[Any] = field(default_factory=list[Any])
    _windows: list[OptimizerWindow] = field(default_factory=list[OptimizerWindow])
    _answers: dict[Any, Answer] = field(default_factory=dict[Any, Answer])
    _undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def backward_begins(self, tops: list[Any], windows: Sequence[OptimizerWindow]) -> None:
        """A backward begins after a step in which one of these windows had an all-zero gradient."""
        self._stop()
        concerned = [w for w in windows if w.has_zero_gradients() and self._is_time(w)]
        functions = custom_functions(tops) if concerned else []
        if not functions:
            return
        self._tops, self._windows, self.is_listening = tops, concerned, True
        for node in functions:
            self._undo.append(node.register_hook(_listener(self._answers, node)).remove)

    def backward_ends(self) -> None:
        """Report the parameters that such a Function cuts off."""
        answers, tops, windows = self._answers, self._tops, self._windows
        self._stop()
        cut: dict[Any, tuple[int, ...]] = {}
        with without_user_modes():
            for node, (got, returned) in answers.items():
                positions = tuple(at for at, some in returned if not bool(some))
                if positions and bool(got):
                    cut[node] = positions
        if not cut:
            return
        every = leaves_reached(tops, lambda _node: ())
        reached = leaves_reached(tops, lambda node: cut.get(node, ()))
        left = {key for key in every if key not in reached}
        for node, positions in cut.items():
            sources = [node.next_functions[at][0] for at in positions]
            behind = leaves_reached(sources, lambda _node: ())
            self._report(node, [leaf for key, leaf in behind.items() if key in left], windows)

    def _report(
        self, node: Any, leaves: list[torch.Tensor], windows: list[OptimizerWindow]
    ) -> None:
        table = self.parameter_table
        columns = sorted(table.column(leaf) for leaf in leaves if leaf in table)
        for window in windows:
            own = [table.parameters[each] for each in columns if each >= 0]
            names = [each.name for each in own if each.optimizer == window.index]
            if names:
                self.facts.report(
                    FactKind.FUNCTION_FLAT,
                    site=backward_site(node, self.call_sites),
                    optimizer=window.index,
                    parameters=names[:MAX_NAMES],
                    function=node._forward_cls.__name__,
                    num=len(names),
                )

    def _is_time(self, window: OptimizerWindow) -> bool:
        self._num[window.index] += 1
        return is_looked_at(self._num[window.index])

    def _stop(self) -> None:
        undo, self._undo = self._undo, []
        self._answers, self._tops, self._windows, self.is_listening = {}, [], [], False
        for each in undo:
            each()


def _listener(answers: dict[Any, Answer], node: Any) -> Callable[[Any, Any], None]:
    def listen(returned: Any, given: Any) -> None:
        try:
            with without_user_modes():
                got = [each.any() for each in given if type(each) in PLAIN_TYPES]
                some = [(at, r.any()) for at, r in enumerate(returned) if type(r) in PLAIN_TYPES]
                if got and some:
                    answers[node] = torch.stack(got).any(), some
        except Exception:  # it runs in the backward of the program
            answers.pop(node, None)

    return listen
