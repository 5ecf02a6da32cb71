"""What is kept of a sample of a distribution, and whether an operand holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch

from seismograd.capture.graph.loss_graph import below_views
from seismograd.capture.graph.traversal import LEAF
from seismograd.tensors.freed_memory import is_readable

MAX_DEPTH = 4  # distributions within distributions
MIN_ROWS = 16  # that are in the same order: by chance once in 16!
MAX_ROWS = 256  # compared
MAX_COLUMNS = 4096
MAX_SAMPLED = 4  # components of a sample that are looked for


@dataclass(frozen=True, slots=True)
class DrawnSample:
    """A sample, and the numbers of the operations that made the parameters of its distribution."""

    value: torch.Tensor
    numbers: frozenset[int]
    thread: int
    site: int
    distribution: str  # its class
    has_location: bool  # a Normal's or a Laplace's mean and scale, both with a graph
    mean: torch.Tensor | None  # of the Normal that it is made of, with a graph


def parameters_of(distribution: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Yield the tensors that a distribution was made with."""
    for value in cast(dict[str, object], vars(distribution)).values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, torch.distributions.Distribution) and depth < MAX_DEPTH:
            yield from parameters_of(value, depth + 1)


def innermost(distribution: Any) -> Any:
    """Return the distribution that others are made of."""
    while isinstance(
        inner := getattr(distribution, "base_dist", None), torch.distributions.Distribution
    ):
        distribution = inner
    return distribution


def has_location(distribution: Any) -> bool:
    """Return whether a distribution is made of a mean and a scale that both have a graph, in which
    its density is as torch computes it.
    """
    inner = innermost(distribution)
    if type(inner) not in (torch.distributions.Normal, torch.distributions.Laplace):
        return False
    return all(each.grad_fn is not None for each in (inner.loc, inner.scale))


def mean_of(distribution: Any) -> torch.Tensor | None:
    """Return the mean of the Normal that a distribution is made of, without its graph."""
    inner = innermost(distribution)
    if type(inner) is not torch.distributions.Normal or inner.loc.grad_fn is None:
        return None
    return inner.loc.detach()


def numbers_of(node: Any) -> Iterator[int]:
    """Yield the number of an operation, and that of the one whose values it passes on."""
    for each in (node, below_views(node)):
        if each is not None and each._sequence_nr() != LEAF:
            yield each._sequence_nr()


def holds(value: torch.Tensor, sample: torch.Tensor) -> bool:
    """Return whether an operand is a sample, or has a column that is in the order of the sample,
    as that of its tanh is: both hold many different numbers.
    """
    if not is_readable(sample):
        return False
    if value.numel() == sample.numel() and value.data_ptr() == sample.data_ptr():
        return True
    if value.layout is not torch.strided or value.dim() != 2 or not value.is_floating_point():
        return False
    rows = sample.reshape(sample.shape[0], 1) if sample.dim() == 1 else sample.flatten(0, -2)
    if rows.dim() != 2 or rows.shape[0] != value.shape[0] or value.shape[1] > MAX_COLUMNS:
        return False
    return any(
        _is_in_order(value[:MAX_ROWS], component)
        for component in rows[:MAX_ROWS, :MAX_SAMPLED].unbind(1)
    )


def _is_in_order(columns: torch.Tensor, component: torch.Tensor) -> bool:
    """Return whether any of these columns rises, or falls, with the component of a sample."""
    ordered, order = component.sort()
    if int((ordered.diff() != 0).sum()) < MIN_ROWS - 1:
        return False
    steps = columns[order].diff(dim=0)
    differs = (steps != 0).sum(0) >= MIN_ROWS - 1
    return bool((differs & ((steps >= 0).all(0) | (steps <= 0).all(0))).any())
