"""Decide which processes hold the same tensor of one name, from what they tell of it: replicas have
the same weights, at first and after a step, and the same gradient once it has been reduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seismograd.distributed.weight_checksum import is_constant
from seismograd.schema import Parameter

# Of two reduced gradients: those that were summed in another order differ by rounding.
TOLERANCE = 1e-4
_ITEM_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(slots=True)
class HeldTensor:
    """What is known of one parameter. `classes`: for each rank the lowest one that holds the same
    tensor.

    `is_same`: that all hold replicas is certain, for their gradients were the same; `is_reduced`:
    which was no chance, as it is for the last bias where the loss is a mean. `at_first`,
    `read` and `now` are the checksums of each rank's weights: the first, the last when gradients
    were read, and the last of all, which may be after a step. `gradients`: norm, sum and largest
    scalar of those of this iteration that are finite and not zero. `is_local`: the weights stay the
    same though the gradients differ, which are then reduced nowhere, or where nobody has seen it;
    `have_drifted`: they were once different.
    """

    parameter: Parameter
    mark: str
    classes: dict[int, int] = field(default_factory=dict[int, int])
    is_same: bool = False
    is_reduced: bool = False
    is_local: bool = False
    have_drifted: bool = False
    at_first: dict[int, int] = field(default_factory=dict[int, int])
    read: dict[int, int] = field(default_factory=dict[int, int])
    now: dict[int, int] = field(default_factory=dict[int, int])
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    gradients: dict[int, tuple[float, float, float]] = field(
        default_factory=dict[int, tuple[float, float, float]]
    )

    @property
    def num_tensors(self) -> int:
        """Return how many different tensors there are."""
        return len(set(self.classes.values()))

    @property
    def have_differed(self) -> bool:
        """Return whether weights of the replicas, if they are any, are different."""
        return len(set(self.now.values())) > 1

    @property
    def began_alike(self) -> bool:
        """Return whether its replicas began with the same weights, and not by chance: not with
        zeros or ones.
        """
        sums = set(self.at_first.values())
        itemsize = _ITEM_SIZES.get(self.parameter.dtype, 1)
        numel = max(1, self.parameter.numel)
        return len(sums) == 1 and not is_constant(next(iter(sums)), numel, itemsize)

    def decide(self) -> None:
        """Decide which ranks hold the same tensor, from this tensor alone."""
        ranks = sorted(self.now)
        if len(ranks) < 2 or not self.classes.keys() <= self.now.keys():
            return
        self.is_same = False
        same_shape = len({self.shapes[r] for r in ranks}) == 1
        same_weights = same_shape and len({self.now[r] for r in ranks}) == 1
        known = all(r in self.gradients for r in ranks)
        same_gradients = (
            known
            and same_shape
            and all(
                _are_alike(self.gradients[ranks[0]], self.gradients[r], self.parameter.numel)
                for r in ranks[1:]
            )
        )
        same_then = len({self.read[r] for r in ranks}) == 1
        # One that had nothing to do in a window may read its gradients after its step.
        if same_gradients and (same_then or same_weights or len(self.parameter.shape) > 1):
            # Of a matrix also with different weights: someone has reduced these gradients, so they
            # are meant to be the same.
            norm, _, largest = self.gradients[ranks[0]]
            self.is_reduced = norm < (1 - TOLERANCE) * largest * self.parameter.numel**0.5
            self.is_same, self.classes = True, dict.fromkeys(ranks, ranks[0])
            return
        has_moved = self.now[ranks[0]] != self.at_first[ranks[0]]
        # Replicas that are averaged every few steps are like none at all in between.
        self.have_drifted |= not same_weights
        self.is_local = same_weights and known and has_moved and not self.have_drifted
        if same_weights and (not known or has_moved):
            self.classes = dict.fromkeys(ranks, ranks[0])
        else:
            self.classes = _clusters(self, ranks)


def _are_alike(
    one: tuple[float, float, float], other: tuple[float, float, float], numel: int
) -> bool:
    """Return whether two gradients, given by norm, sum and largest scalar, are equal but for
    rounding.
    """
    norm = max(one[0], other[0])
    return (
        abs(one[0] - other[0]) <= TOLERANCE * norm
        and abs(one[1] - other[1]) <= TOLERANCE * norm * max(1, numel) ** 0.5
        and abs(one[2] - other[2]) <= TOLERANCE * norm
    )


def _clusters(held: HeldTensor, ranks: Sequence[int]) -> dict[int, int]:
    """Return for each rank the lowest one that has the same shape, weights and gradient."""
    first: dict[int, int] = {}
    for rank in ranks:
        first[rank] = rank
        for earlier in sorted(set(first.values()) - {rank}):
            if held.shapes[earlier] != held.shapes[rank] or held.now[earlier] != held.now[rank]:
                continue
            one, other = held.gradients.get(earlier), held.gradients.get(rank)
            if one is None or other is None or _are_alike(one, other, held.parameter.numel):
                first[rank] = earlier
                break
    return first
