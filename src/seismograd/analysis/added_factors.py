"""Find weights that only add to frozen ones: the factors of low-rank updates, and adapters.

None of them passes on a signal that the others receive: it goes through the frozen weights as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from seismograd.schema import Parameter

# beginnings of a part of the names that common packages give to factors
PREFIXES = ("lora_", "lokr_", "hada_w", "loha_")
ADAPTERS = ("adapter", "adapters")  # whose layers have a bypass, where others are frozen


def added_factors(parameters: Sequence[Parameter]) -> set[str]:
    """Return the names of these weights: by their own names, or because below one module there is
    nothing but a frozen weight and pairs of others, whose products have its shape.
    """
    frozen = [each for each in parameters if not each.trainable and _is_matrix(each)]
    if not frozen:
        return set()
    found = {each.name for each in parameters if each.trainable and _is_called_so(each.name)}
    trained: defaultdict[str, list[Parameter]] = defaultdict(list)
    num_frozen: defaultdict[str, int] = defaultdict(int)
    for each in parameters:
        if _is_matrix(each):
            for owner in _owners(each.name):
                if each.trainable:
                    trained[owner].append(each)
                else:
                    num_frozen[owner] += 1
    for base in frozen:
        for owner in _owners(base.name)[:2]:
            beside = trained[owner]
            if num_frozen[owner] == 1 and beside and _are_pairs(base.shape, beside):
                found.update(each.name for each in beside)
    return found


def _are_pairs(whole: tuple[int, ...], beside: Sequence[Parameter]) -> bool:
    """Return whether each two of these, in their order, multiply to a weight of this shape."""
    pairs = list(zip(beside[::2], beside[1::2], strict=False))
    return len(beside) % 2 == 0 and all(
        _is_product(whole, one.shape, other.shape) or _is_product(whole, other.shape, one.shape)
        for one, other in pairs
    )


def _is_product(whole: tuple[int, ...], one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether the product of two has this shape, or its transpose, and a lower rank."""
    shape, rank = whole[:2], one[1]
    fits = rank == other[0] and (one[0], other[1]) in (shape, shape[::-1])
    return fits and rank < min(shape)


def _owners(name: str) -> list[str]:
    """Return the modules that a parameter lies below, the innermost first."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:stop]) for stop in range(len(parts), 0, -1)]


def _is_called_so(name: str) -> bool:
    parts = name.split(".")
    return any(each.startswith(PREFIXES) or each in ADAPTERS for each in parts)


def _is_matrix(parameter: Parameter) -> bool:
    return len(parameter.shape) >= 2
