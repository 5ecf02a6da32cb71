"""Find logits that are cosines without a scale: a cross entropy of them cannot become small."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from seismograd.capture.graph.loss_operands import PASSING, Fault
from seismograd.capture.graph.traversal import LEAF, SAME_VALUES, passes, saved, shape_of, source

MAX_HOPS = 16  # nodes from the loss function to the product
MAX_TEMPERATURE = 0.5  # that similarities may be meant to be divided by
MIN_SHARE = 0.2  # of the loss of a guess, that is left of it at best
PRODUCTS = frozenset({"BmmBackward0", "MmBackward0"})
OF_A_NORM = SAME_VALUES | {"ClampMinBackward0", "AddBackward0", "SqrtBackward0"}


def cosines(node: Any) -> Iterator[Fault]:
    """Detect a cross entropy whose logits are the cosines between features and the weights of the
    classes, not multiplied by enough. With C classes and a scale s it is at least
    log(1 + (C - 1) exp(-2 s)): the right class's cosine is at most 1, those of others at least -1
    (Wang et al., 2017, NormFace, give a higher bound for the mean over balanced classes).
    """
    shape = shape_of(node)
    product, scale = _scaled_product(source(node))
    if product is None or len(shape) != 2 or shape[1] < 2:
        return
    sides = [_normalised(source(product, position)) for position in (0, 1)]
    if None in sides or not any(side._sequence_nr() == LEAF for side in sides):
        return
    lowest = math.log1p((shape[1] - 1) * math.exp(-2 * scale))
    if lowest > MIN_SHARE * math.log(shape[1]):
        yield Fault("cross_entropy", "cosine", *shape, low=scale, high=lowest)


def similarities(node: Any) -> Iterator[Fault]:
    """Detect a cross entropy whose logits are the cosines between samples times a small number, as
    where they are multiplied by a temperature and not divided by it. Of K logits in a row, one of
    which may be masked, and a scale s it is at least log(1 + (K - 2) exp(-2 s)).
    """
    shape, above = shape_of(node), source(node)
    if len(shape) != 2:
        return
    num_left = shape[1] - 1
    if above is not None and above.name() == "MaskedFillBackward0":
        mask = saved(above, "mask")
        num_left = 0 if mask is None else min(num_left, _least_left(mask, shape))
        above = source(above)
    product, scale = _scaled_product(above, shifted=False)
    if product is None or scale > MAX_TEMPERATURE or num_left < 2:
        return
    sides = [part for position in (0, 1) for part in _parts(source(product, position))]
    if None not in sides and not any(side._sequence_nr() == LEAF for side in sides):
        lowest = math.log1p((num_left - 1) * math.exp(-2 * scale))
        yield Fault("cross_entropy", "similarity", *shape, low=scale, high=lowest)


def _parts(node: Any) -> list[Any]:
    """Return what is divided by its own norm, of each part of what is joined; `None` where it is
    something else.
    """
    node = _behind(node, SAME_VALUES)
    if node is not None and node.name() == "CatBackward0":
        return [_normalised(below) for below, _ in node.next_functions]
    return [_normalised(node)]


def _least_left(mask: torch.Tensor, shape: tuple[int, ...]) -> int:
    """Return how many logits are left of a row where the mask leaves fewest."""
    if mask.dim() != 2 or mask.dtype != torch.bool:
        return 0
    with torch.no_grad():
        return shape[1] - int(mask.expand(shape).sum(1).max())


def _scaled_product(node: Any, *, shifted: bool = True) -> tuple[Any, float]:
    """Return the product of matrices that these logits come from, and what multiplies it; `None`
    where anything else than numbers is done with it, such as a scale that is learned. `shifted`:
    a constant may be added.
    """
    scale = 1.0
    for _ in range(MAX_HOPS):
        name = "" if node is None else node.name()
        if name in PRODUCTS:
            return node, scale
        alive = [] if node is None else [p for p in (0, 1) if source(node, p) is not None]
        if name in PASSING or name == "NegBackward0":
            node = source(node)
        elif shifted and name in ("AddBackward0", "SubBackward0") and len(alive) == 1:
            node = source(node, alive[0])  # a margin
        elif name in ("MulBackward0", "DivBackward0") and len(alive) == 1:
            number = saved(node, "other" if alive[0] == 0 else "self")
            if number is None or number.numel() != 1 or (name == "DivBackward0" and alive[0]):
                return None, scale
            value = abs(float(number))
            scale *= value if name == "MulBackward0" else 1 / max(value, 1e-30)
            node = source(node, alive[0])
        else:
            return None, scale
    return None, scale


def _normalised(node: Any) -> Any:
    """Return what is divided by its own norm, `None` where it is something else."""
    node = _behind(node, SAME_VALUES)
    if node is None or node.name() != "DivBackward0":
        return None
    norm = _behind(source(node, 1), OF_A_NORM)
    above = _behind(source(node), SAME_VALUES)
    is_norm = norm is not None and "Norm" in norm.name()
    return above if is_norm and _behind(source(norm), SAME_VALUES) is above else None


def _behind(node: Any, passing: frozenset[str]) -> Any:
    while node is not None and passes(node, passing):
        node = source(node)
    return node
