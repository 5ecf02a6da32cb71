"""Find normalizations of groups of a single number in the graph of a loss: each number is its own
mean, so the result is the bias, whatever the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from seismograd.capture.graph.traversal import LEAF, saved, source
from seismograd.capture.graph.zero_gradient_origin import leaves_reached
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind, ZeroCause

MAX_NAMES = 64
NORMS = {
    "CudnnBatchNormBackward0": "batch_norm",
    "NativeBatchNormBackward0": "batch_norm",
    "NativeGroupNormBackward0": "group_norm",
    "NativeLayerNormBackward0": "layer_norm",
}


@dataclass(slots=True)
class ConstantNorms:
    """Looks at the first backwards of each line of the script, and ever more rarely; where the
    first graph has no such norm, never again.
    """

    facts: Facts
    parameter_table: ParameterTable
    _times: dict[int, int] = field(default_factory=dict[int, int])  # by line; 0: without one

    def look(self, site: int, tops: list[Any], windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a backward that may concern these windows."""
        times = self._times.get(site, -1)
        if times == 0:
            return
        norms: list[Any] = []

        def collect(node: Any) -> tuple[int, ...]:
            if is_of_one(node):
                norms.append(node)
            return ()

        every = leaves_reached(tops, collect)
        if not norms:
            self._times[site] = 0
            return
        self._times[site] = times = max(times, 0) + 1
        # its weight is multiplied by zero
        reached = leaves_reached(tops, lambda node: (0, 1) if is_of_one(node) else ())
        left = [leaf for key, leaf in every.items() if key not in reached]
        self._report(site, norms[0], left, windows, times, len(norms))

    def _report(
        self,
        site: int,
        norm: Any,
        left: list[torch.Tensor],
        windows: Sequence[OptimizerWindow],
        times: int,
        num_norms: int,
    ) -> None:
        table = self.parameter_table
        columns = {table.column(leaf) for leaf in left if leaf in table}
        column = next((table.column(p) for p in _affine(norm) if p in table), -1)
        holder = table.parameters[column] if column >= 0 else None
        groups, channels = (int(getattr(norm, f"_saved_{name}", 0)) for name in ("group", "C"))
        for window in windows:
            own = table.updated_by(window.index, columns)
            if own:
                self.facts.report(
                    FactKind.ZERO_GRADIENT,
                    site=site,
                    optimizer=window.index,
                    parameters=[each.name for each in own[:MAX_NAMES]],
                    cause=str(ZeroCause.NORM_OF_ONE),
                    operation=NORMS[norm.name()],
                    weight="",
                    num=len(own),
                    times=times,
                    norms=num_norms,
                    name="" if holder is None else holder.name.rpartition(".")[0],
                    model="" if holder is None else holder.model,
                    groups=groups,
                    channels=channels,
                )


def is_of_one(node: Any) -> bool:
    """Return whether a node is a normalization whose mean and deviation are over one number."""
    name: str = node.name()
    if name not in NORMS:
        return False
    if name == "NativeGroupNormBackward0":
        return int(node._saved_C) * int(node._saved_HxW) == int(node._saved_group)
    if name == "NativeLayerNormBackward0":
        return prod(map(int, node._saved_normalized_shape)) == 1
    given = saved(node, "input")
    return (
        bool(getattr(node, "_saved_training", True))
        and given is not None
        and given.dim() > 1
        and given.numel() == given.shape[1]
    )


def _affine(node: Any) -> list[torch.Tensor]:
    """Return weight and bias of a normalization, as far as they are leaves."""
    below = [source(node, position) for position in (1, 2)]
    return [
        leaf
        for each in below
        if each is not None and each._sequence_nr() == LEAF
        if (leaf := getattr(each, "variable", None)) is not None
    ]
