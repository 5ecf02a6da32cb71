"""How far apart two gradients may be that differ by rounding only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seismograd.schema import Parameter


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Relative differences that rounding explains: of a norm, and of the whole gradient. `floor`:
    of the norm of all gradients, the share below which one consists of rounding alone, as that of
    a bias before a normalisation does.
    """

    norm: float
    distance: float
    floor: float


DOUBLE = Tolerance(1e-9, 1e-8, 1e-15)
SINGLE = Tolerance(1e-4, 5e-4, 2e-7)
HALF = Tolerance(2e-2, 1e-1, 1e-4)  # bfloat16 has three digits, float16 nearly four

_HALVES = frozenset({"bfloat16", "float16"})
_DOUBLES = frozenset({"float64", "complex128"})


def tolerance_of(parameters: Iterable[Parameter]) -> Tolerance:
    """Return the tolerance of the coarsest numbers that any of these computes with."""
    dtypes = {name for p in parameters for name in (p.dtype, p.compute_dtype) if name}
    if dtypes & _HALVES:
        return HALF
    return DOUBLE if dtypes and dtypes <= _DOUBLES else SINGLE
