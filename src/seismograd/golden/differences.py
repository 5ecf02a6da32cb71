"""How far apart two fingerprints are, and how far apart rounding may put them.

Shapes: K steps, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.golden.fingerprint import Fingerprint
from seismograd.schema import FloatArray, Parameter, State

MARGIN = 16.0
"""Times the largest difference that perturbing by an ulp has made: a few perturbations do not show
the largest that there is, and other kernels round more than once where these round once.
"""
COUNT_MARGIN = 4.0  # likewise, of what is counted: a single scalar at the limit of two bins is much

_EPS = {"float64": 2.0**-52, "complex128": 2.0**-52, "bfloat16": 2.0**-7, "float16": 2.0**-10}
_SINGLE = 2.0**-23


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is compared: `differ` returns how far apart two fingerprints are in it, at
    each step and parameter, NaN where either has no number  # (K, P). `margin` times what was
    measured is allowed; `floor` returns the least that is of a parameter, whatever was measured.
    """

    name: str
    differ: Callable[[Fingerprint, Fingerprint], FloatArray]
    floor: Callable[[Parameter], float]
    margin: float = MARGIN


def eps_of(parameter: Parameter) -> float:
    """Return the distance from 1 to the next number, of the coarsest that it computes with."""
    dtypes = (parameter.dtype, parameter.compute_dtype)
    return max(_EPS.get(name, _SINGLE) for name in dtypes if name)


def _of_norms(pinned: Fingerprint, other: Fingerprint) -> FloatArray:
    """Relative to the pinned norm; infinite where that is 0 and the other is not."""
    finite = [
        (each.states == State.FINITE) | (each.states == State.ZERO) for each in (pinned, other)
    ]
    norms = [
        np.where(ok, each.norms, np.nan) for ok, each in zip(finite, (pinned, other), strict=True)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(norms[1] - norms[0]) / norms[0]
    return np.where((norms[0] == 0) & (norms[1] == 0), 0.0, apart)


def _of_zeros(pinned: Fingerprint, other: Fingerprint) -> FloatArray:
    """As a share of the scalars."""
    return np.abs(other.zeros - pinned.zeros) / pinned.numels


def _of_exponents(pinned: Fingerprint, other: Fingerprint) -> FloatArray:
    """As the share of the scalars that are in another bin."""

    def apart(one: FloatArray, two: FloatArray) -> FloatArray:
        return np.abs(two - one).sum(axis=1) / 2 / pinned.numels

    return _of_samples(pinned, pinned.exponents, other.exponents, apart)


def _of_sketches(pinned: Fingerprint, other: Fingerprint) -> FloatArray:
    """Relative to the norm of the pinned one."""

    def apart(one: FloatArray, two: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.linalg.norm(two - one, axis=1) / np.linalg.norm(one, axis=1)

    return _of_samples(pinned, pinned.sketches, other.sketches, apart)


def _of_samples(
    pinned: Fingerprint,
    one: Mapping[int, FloatArray],
    two: Mapping[int, FloatArray],
    apart: Callable[[FloatArray, FloatArray], FloatArray],
) -> FloatArray:
    found = np.full(pinned.states.shape, np.nan)
    for step in one.keys() & two.keys():
        found[step] = apart(one[step], two[step])
    return found


QUANTITIES = (
    Quantity("norm", _of_norms, lambda each: 16 * eps_of(each)),
    Quantity("zeros", _of_zeros, lambda each: 2 / max(1, each.numel), COUNT_MARGIN),
    Quantity("exponents", _of_exponents, lambda each: 2 / max(1, each.numel), COUNT_MARGIN),
    Quantity("sketch", _of_sketches, lambda each: 64 * eps_of(each)),
)

Allowed = Mapping[str, FloatArray]
"""How far apart each quantity may be, by its name  # (K, P) each."""


def measure_allowed(pinned: Fingerprint, perturbed: Sequence[Fingerprint]) -> Allowed:
    """Return what is allowed, from runs whose numbers were perturbed by an ulp: of each gradient a
    multiple of the most that was seen, of itself or of half of the parameters at that step, because
    a few runs may miss what one of them can do.
    """
    allowed: dict[str, FloatArray] = {}
    for quantity in QUANTITIES:
        seen = np.zeros(pinned.states.shape)
        for each in perturbed:
            seen = np.fmax(seen, quantity.differ(pinned, each))
        typical = np.median(np.where(np.isfinite(seen), seen, 0.0), axis=1, keepdims=True)
        floor = np.array([quantity.floor(each) for each in pinned.parameters])
        allowed[quantity.name] = np.maximum(quantity.margin * np.maximum(seen, typical), floor)
    return allowed
