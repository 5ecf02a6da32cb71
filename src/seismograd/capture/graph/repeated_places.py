"""Find additions to places that are named several times in one index, as `total[index] += x`: of
those to the same place only one is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from seismograd.capture.graph.loss_graph import LossGraph, below_views, leaves_behind
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.indexed_additions import indexed_addition
from seismograd.capture.source.statements import Statement
from seismograd.schema import FactKind, Site
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.saved_tensors import saved_list

MAX_NAMES = 64
MAX_PLACES = 1 << 16  # of an index that are looked at, the first ones
# one place alone may be where everything goes that is not meant to count, such as padding
MIN_REPEATED = 2
ADDITIONS = frozenset({"AddBackward0", "SubBackward0"})


class RepeatedAddition(NamedTuple):
    """An addition by an index, how many it is of and how many of them are lost; whether it adds
    to what it has read at these very places, which the graph shows where that has a gradient.
    """

    node: Any
    num: int
    lost: int
    is_sure: bool


@dataclass(slots=True)
class RepeatedPlaces:
    """Inspects the graphs of the losses that it is given."""

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        for found in lost_additions(graph):
            shown = self._statement(site)
            # A sum of two others may be written there: the source has to show that it is not.
            if shown is None and not found.is_sure:
                continue
            table = self.parameter_table
            columns = sorted(set(table.columns(leaves_behind({found.node}))))
            names = [table.parameters[column].name for column in columns]
            if not names:
                continue
            self.facts.report(
                FactKind.LOST_ADDITIONS,
                site=site,
                parameters=names[:MAX_NAMES],
                num=found.num,
                lost=found.lost,
                place="" if shown is None else shown.place,
                text="" if shown is None else shown.text,
            )
            return

    def _statement(self, site: int) -> Statement | None:
        if site < 0:
            return None
        backward = self.sites[site]
        return indexed_addition(backward.file, backward.line)


def lost_additions(graph: LossGraph) -> Iterator[RepeatedAddition]:
    """Yield the additions by an index that names places several times."""
    for node in graph.nodes:
        if node.name() != "IndexPutBackward0" or node._saved_accumulate:
            continue
        added = below_views(node.next_functions[1][0])
        if added is None or added.name() not in ADDITIONS:
            continue
        places = _places(node)
        summands = [below_views(below) for below, _ in added.next_functions]
        if places is None or all(each is None for each in summands):
            continue
        num = places.shape[1]
        _, counts = np.unique(places.cpu().numpy(), axis=1, return_counts=True)
        if np.count_nonzero(counts > 1) >= MIN_REPEATED:
            read = [each for each in summands if _reads(each, places)]
            yield RepeatedAddition(node, num, num - len(counts), bool(read))


def _reads(node: Any, places: torch.Tensor) -> bool:
    """Return whether the node reads at these places."""
    if node is None or node.name() != "IndexBackward0":
        return False
    read = _places(node)
    return read is not None and read.shape == places.shape and torch.equal(read, places)


def _places(node: Any) -> torch.Tensor | None:
    """Return the places that a node names by numbers  # (dimensions, places); `None` where it does
    so by a mask, or they cannot be read. Nothing that a hook packed away is unpacked.
    """
    indices = [each for each in saved_list(node, "indices") if each is not None]
    readable = all(
        not each.is_floating_point() and each.dtype not in (torch.bool, torch.uint8)
        for each in indices
    ) and all(map(is_readable, indices))
    if not indices or not readable:
        return None
    together: list[torch.Tensor] = [*torch.broadcast_tensors(*indices)]  # pyright: ignore
    return torch.stack([each.reshape(-1)[:MAX_PLACES] for each in together])
