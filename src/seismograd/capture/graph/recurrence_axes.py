"""Find recurrences that run over the batch in place of time: an `nn.LSTM` without `batch_first`
that gets samples first; and states that a view mixes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from seismograd.capture.graph.loss_graph import LossGraph, leaves_behind
from seismograd.capture.graph.mixed_states import MixedState, mixed_states
from seismograd.capture.graph.token_targets import TokenTargets, token_targets
from seismograd.capture.graph.traversal import shape_of, signed, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.creations import layer_creation
from seismograd.capture.source.viewed_states import viewed_state
from seismograd.schema import FactKind, Site

LAYERS = frozenset({"CudnnRnnBackward0", "MkldnnRnnLayerBackward0"})  # time first
MAX_STACKS = 16  # that are looked at
# a slice of everything passes on, too: that of torch 2.6 in `[:, -1]`
PASSING = frozenset(
    {
        "AliasBackward0",
        "CatBackward0",
        "CloneBackward0",
        "NativeDropoutBackward0",
        "SliceBackward0",
    }
)


@dataclass(slots=True)
class RecurrenceAxes:
    """Inspects the graphs of the losses that it is given; reports each layer once."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    _reported: set[str] = field(default_factory=set[str])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        for mixed in mixed_states(graph):
            self._report_mixed(site, mixed)
        found = list(recurrences(graph))
        if not found:
            return
        targets = token_targets(graph)
        for node, shape in found:
            is_selected = selects_one(graph, node, shape)
            if not is_selected and not is_across(shape, targets):
                continue
            name, layer = self._layer(node)
            if layer is None or name in self._reported or (is_selected and layer.batch_first):
                continue
            self._reported.add(name)
            kind = type(layer).__name__
            made = layer_creation(self.sites[site].file, kind, name) if site >= 0 else None
            self.facts.report(
                FactKind.RECURRENCE_AXIS,
                site=site,
                name=name,
                layer=kind,
                place="" if made is None else made.place,
                text="" if made is None else made.text,
                steps=shape[0],
                sequences=shape[1],
                selected=float(is_selected),
                batch_first=float(layer.batch_first),
            )

    def _report_mixed(self, site: int, mixed: MixedState) -> None:
        name, layer = self._layer(mixed.node)
        sizes = () if layer is None else (layer.hidden_size, layer.proj_size)
        is_state = mixed.features in sizes
        key = f"{name if is_state else ''}: mixed"
        if key in self._reported or not (is_state or mixed.is_of_layers):
            return
        self._reported.add(key)
        shown = viewed_state(self.sites[site].file) if site >= 0 and is_state else None
        self.facts.report(
            FactKind.MIXED_SAMPLES,
            site=site,
            name=name if is_state else "",
            layer=type(layer).__name__ if is_state else "",
            depth=mixed.depth,
            samples=mixed.samples,
            features=mixed.features,
            place="" if shown is None else shown.place,
            text="" if shown is None else shown.text,
        )

    def _layer(self, node: Any) -> tuple[str, torch.nn.RNNBase | None]:
        """Return the layer whose weights are behind a node, the last of several, and its name."""
        behind = {id(leaf) for leaf in leaves_behind({node})}
        found: tuple[str, torch.nn.RNNBase | None] = "", None
        for model, prefix in self.parameter_table.models():
            for path, module in cast(
                "Iterator[tuple[str, torch.nn.Module]]", model.named_modules()
            ):
                if isinstance(module, torch.nn.RNNBase) and any(
                    id(parameter) in behind for parameter in module.parameters(recurse=False)
                ):
                    found = f"{prefix}{path}", module
        return found


def recurrences(graph: LossGraph) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yield the operations that give the states of a recurrence at all of its steps, and their
    shape: (steps, sequences, features), of several sequences.
    """
    num_stacks = 0
    for node in graph.nodes:
        shape = shape_of(node)
        if len(shape) != 3 or min(shape[:2]) < 2:
            continue
        name: str = node.name()
        if name in LAYERS:
            if name != "CudnnRnnBackward0" or not node._saved_batch_first:
                yield node, shape
        elif name == "StackBackward0" and int(node._saved_dim) == 0 and num_stacks < MAX_STACKS:
            num_stacks += 1
            steps = [below for below, _ in node.next_functions if below is not None]
            # each state depends on the one before: the last on the first, or, backwards in time,
            # the first on the last
            if len(steps) == shape[0] and (
                steps[-1] in graph.reaching({steps[0]}) or steps[0] in graph.reaching({steps[-1]})
            ):
                yield node, shape


def selects_one(graph: LossGraph, node: Any, shape: tuple[int, ...]) -> bool:
    """Return whether of all sequences that a recurrence ran over a single one is used: who takes
    the second dimension for time selects its last step that way.
    """
    stack, seen, chosen = [node], {node}, set[int]()
    while stack:
        passed = stack.pop()
        for reader in graph.readers[passed]:
            if any(below is passed and number for below, number in reader.next_functions):
                return False  # its last state
            name: str = reader.name()
            if name == "SelectBackward0":
                sizes = tuple(map(int, reader._saved_self_sym_sizes))
                if len(sizes) != 3 or sizes[:2] != shape[:2] or int(reader._saved_dim) != 1:
                    return False
                chosen.add(signed(reader._saved_index))
            elif (name in PASSING or _drops_out(reader)) and shape_of(reader)[:2] == shape[:2]:
                if reader not in seen:
                    seen.add(reader)
                    stack.append(reader)
            else:
                return False
    return len(chosen) == 1


def _drops_out(node: Any) -> bool:
    """Return whether this multiplies by numbers, as a dropout does."""
    return node.name() == "MulBackward0" and (source(node) is None or source(node, 1) is None)


def is_across(shape: tuple[int, ...], targets: TokenTargets | None) -> bool:
    """Return whether a recurrence runs over the sequences of a batch, the targets of which are the
    tokens that come next in each of them.
    """
    if targets is None or targets.offset != 1:
        return False
    batch, length = targets.tokens.shape
    return batch != length and shape[:2] == (batch, length)
