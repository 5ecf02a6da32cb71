"""Notice that a step had all-zero gradients, and search the next graph for the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from seismograd.capture.graph.zero_gradient_origin import blocked_by
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration import GradientReading
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind

MAX_NAMES = 64


class ZeroGradients:
    """Inspects a graph where the previous step had an all-zero gradient: the first such backwards,
    and later ones ever more rarely.
    """

    def __init__(self, facts: Facts, parameter_table: ParameterTable) -> None:
        self._facts, self._parameter_table = facts, parameter_table
        # backwards after a step with an all-zero gradient, by optimizer
        self._num: Counter[int] = Counter()
        self._reported: set[tuple[int, str, str, tuple[str, ...]]] = set()

    def look(self, site: int, tops: list[Any], windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a backward that begins at this call site and may concern these
        windows.
        """
        concerned = [
            window for window in windows if window.has_zero_gradients() and self._is_time(window)
        ]
        blocked = blocked_by(tops) if concerned else None
        if blocked is None:
            return
        named = {
            self._parameter_table.parameters[c].name
            for leaf in blocked.leaves
            if leaf in self._parameter_table and (c := self._parameter_table.column(leaf)) >= 0
        }
        weight = blocked.weight
        of_zeros = (
            ""
            if weight is None or weight not in self._parameter_table
            else self._parameter_table.parameters[self._parameter_table.column(weight)].name
        )
        for window in concerned:
            own = tuple(
                p.name
                for p in self._parameter_table.parameters
                if p.optimizer == window.index and p.name in named
            )
            key = (window.index, str(blocked.cause), blocked.operation, own)
            if own and (key not in self._reported or not _has_more(window.last)):
                self._reported.add(key)
                self._facts.report(
                    FactKind.ZERO_GRADIENT,
                    site=site,
                    optimizer=window.index,
                    parameters=own[:MAX_NAMES],
                    cause=str(blocked.cause),
                    operation=blocked.operation,
                    weight=of_zeros,
                    num=len(own),
                    **({"last_size": blocked.last_size} if blocked.last_size else {}),
                )

    def _is_time(self, window: OptimizerWindow) -> bool:
        self._num[window.index] += 1
        return is_looked_at(self._num[window.index])


def _has_more(reading: GradientReading | None) -> bool:
    """Return whether other gradients were not zero: where all are zero, every inspection is
    reported, so that the rule can find where they begin.
    """
    return reading is not None and bool((reading.values["grad_norm"] > 0).any())
