"""Measure the posterior of a variational autoencoder by the graph of its loss, where the divergence
is summed over the latents and the reconstruction is averaged over its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch

from seismograd.capture.graph.loss_graph import SCALING, LossGraph
from seismograd.capture.graph.loss_reduction import MEAN, WITH_REDUCTION
from seismograd.capture.graph.traversal import passes, saved, shape_of, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.source.loss_calls import loss_call
from seismograd.schema import FactKind, Site

MAX_NODES = 128  # from a loss down to what it is a sum of
MAX_NUMBERS = 1 << 22  # of a posterior that is read
ADDING = frozenset({"AddBackward0", "RsubBackward1", "SubBackward0"})
FUNCTIONS = {
    "BinaryCrossEntropyBackward0": ("binary_cross_entropy", "BCELoss"),
    "BinaryCrossEntropyWithLogitsBackward0": (
        "binary_cross_entropy_with_logits",
        "BCEWithLogitsLoss",
    ),
    "MseLossBackward0": ("mse_loss", "MSELoss"),
    "SmoothL1LossBackward0": ("smooth_l1_loss", "SmoothL1Loss"),
}


class Posterior(NamedTuple):
    """The divergence of a sample, on average, from a standard normal distribution of `latents`; how
    often a number in it counts what one of the `mean` numbers of the reconstruction does, and the
    node of that.
    """

    divergence: float
    latents: int
    samples: int
    mean: int
    times: float
    reconstruction: Any


@dataclass(slots=True)
class Posteriors:
    """Looks at the first graphs of each line of the script, and ever more rarely; where the first
    has no such divergence, never again.
    """

    facts: Facts
    sites: Sequence[Site]
    _without: set[int] = field(default_factory=set[int])  # lines

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        if site in self._without:
            return
        found = posterior(graph)
        if found is None:
            self._without.add(site)
            return
        function, module = FUNCTIONS.get(found.reconstruction.name(), ("", ""))
        shown = None
        if site >= 0 and function:
            shown = loss_call(self.sites[site].file, self.sites[site].line, function, module)
        self.facts.report(
            FactKind.POSTERIOR,
            site=site,
            divergence=found.divergence,
            latents=found.latents,
            samples=found.samples,
            mean=found.mean,
            times=found.times,
            function=function,
            place="" if shown is None else shown.place,
            text="" if shown is None else shown.text,
        )


def posterior(graph: LossGraph) -> Posterior | None:
    """Return the posterior whose divergence a loss holds beside one mean over more numbers; `None`
    where there is no such.
    """
    if len(graph.tops) != 1:
        return None
    ends = _ends(graph.tops[0])
    for node, weight in ends.items():
        if node.name() == "ExpBackward0" and _unscaled(source(node)) in ends:
            for other, weight_of_other in ends.items():
                if other.name() == "PowBackward0" and abs(weight_of_other) == abs(weight):
                    found = _measured(other, node, 2 * abs(weight), ends)
                    if found is not None:
                        return found
    return None


def _measured(
    square: Any, variance: Any, weight: float, ends: dict[Any, float]
) -> Posterior | None:
    mean, spread = saved(square, "self"), saved(variance, "result")
    if mean is None or spread is None or mean.shape != spread.shape or mean.dim() != 2:
        return None
    if not 0 < mean.numel() <= MAX_NUMBERS or float(square._saved_exponent) != 2:
        return None
    averaged = [
        (prod(shape_of(source(node))), abs(factor), node)
        for node, factor in ends.items()
        if node.name() in WITH_REDUCTION and node.name() in FUNCTIONS
    ]
    if len(averaged) != 1 or averaged[0][2]._saved_reduction != MEAN:
        return None
    (num, factor, node) = averaged[0]
    if num <= mean.shape[0] or not factor:
        return None
    with torch.no_grad():
        one = mean.double() ** 2 + spread.double() - spread.double().log() - 1
        divergence = float(0.5 * one.sum(1).mean())
    samples, latents = mean.shape
    return Posterior(divergence, latents, samples, num, weight * num / factor, node)


def _ends(top: Any) -> dict[Any, float]:
    """Return the nodes whose numbers a loss is a weighted sum of, and the weight of one number in
    each; empty where one is not known.
    """
    stack: list[tuple[Any, float]] = [(top, 1.0)]
    ends: dict[Any, float] = {}
    for _ in range(MAX_NODES):
        if not stack:
            return ends
        node, factor = stack.pop()
        name: str = node.name()
        live = [below for below, _ in node.next_functions if below is not None]
        if name in ADDING:
            stack.extend((below, factor) for below in live)
        elif name in ("MeanBackward0", "MeanBackward1"):
            share = max(1, prod(shape_of(node))) / max(1, prod(shape_of(live[0])))
            stack.append((live[0], factor * share))
        elif passes(node) or name in ("NegBackward0", "SumBackward0", "SumBackward1"):
            stack.append((live[0], factor))
        elif name in SCALING and len(live) == 1:
            other = saved(node, "other" if source(node) is not None else "self")
            if other is None or other.numel() != 1 or other.device.type != "cpu":
                return {}
            number = float(other)
            stack.append((live[0], factor * number if name.startswith("Mul") else factor / number))
        else:
            ends[node] = factor
    return {}


def _unscaled(node: Any) -> Any:
    """Return what a value is, multiplied by a number at most."""
    while node is not None and (passes(node) or node.name() in SCALING):
        live = [below for below, _ in node.next_functions if below is not None]
        if len(live) != 1:
            return node
        node = live[0]
    return node
