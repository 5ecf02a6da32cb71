"""Report attention that is masked the wrong way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from seismograd.capture.graph.attention_masks import sees_padding_only, sees_targets
from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.token_targets import token_targets
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.source.masked_calls import attention_call, masked_call
from seismograd.schema import FactKind, Site


@dataclass(slots=True)
class AttentionFaults:
    """Inspects the graphs of the losses that it is given; reports each fault once."""

    facts: Facts
    sites: Sequence[Site]
    _reported: set[str] = field(default_factory=set[str])

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        for fault in attention_faults(graph):
            if fault in self._reported:
                continue
            self._reported.add(fault)
            call = masked_call if fault == "padding only" else attention_call
            found = None if site < 0 else call(self.sites[site].file)
            self.facts.report(
                FactKind.ATTENTION_MASK,
                site=site,
                fault=fault,
                place="" if found is None else found.place,
                text="" if found is None else found.text,
            )


def attention_faults(graph: LossGraph) -> Iterator[str]:
    """Yield what is wrong with the attention in the graph of a loss, as the fact says it."""
    targets = token_targets(graph)
    if targets is not None and targets.offset == 1 and sees_targets(graph, targets):
        yield "not causal"
    if sees_padding_only(graph):
        yield "padding only"
