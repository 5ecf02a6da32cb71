"""Compare the gradients of several losses of one window: each one's norm and the cosines between
them, on some of the windows.

Shapes: L losses, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch

from seismograd.schema import PAIR_DTYPE, SAMPLE_EVERY, AnyArray, FloatArray, no_pairs
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import in_own_context

MAX_LOSSES = 4
MAX_SCALARS = 20_000_000  # total bytes of gradients: they are copied once for each loss
FIRST = 10  # windows with several losses that are all compared, before only every tenth is

Part = list[torch.Tensor | None]  # the gradient that one loss adds to each parameter


@dataclass(frozen=True, slots=True)
class ComparedLosses:
    """The losses of one window, by the index of their site, over some columns of the record.

    `products` are the inner products of their gradients, still multiplied by the square of `scale`;
    `reached` says which loss reaches which parameter. Without columns P is 1, and they are of the
    activations that both losses are computed from.

    `weights` are the numbers that the script multiplies each by in their sum. One that it makes
    smaller, and that has less weight than another and is smaller, is small on purpose: that pair is
    not recorded.
    """

    sites: tuple[int, ...]
    columns: npt.NDArray[np.int64]  # (P,)
    products: torch.Tensor | FloatArray  # (L, L, P)
    reached: npt.NDArray[np.bool_]  # (L, P)
    scale: Scalar | None = None
    weights: tuple[float, ...] | None = None

    def separate(self, numbered: Callable[[int, int], int]) -> ComparedLosses:
        """Return it with a site of its own for each loss of one line: `numbered` maps a site and a
        turn to one.
        """
        if len(set(self.sites)) == len(self.sites):
            return self
        return replace(
            self, sites=tuple(numbered(site, turn) for turn, site in enumerate(self.sites))
        )

    @in_own_context
    def record(self, iteration: int) -> AnyArray:
        """Return entries of PAIR_DTYPE: for each pair of losses one over all parameters that both
        reach, then one for each of these.
        """
        scale = 1.0 if self.scale is None else self.scale.read()
        products = (
            np.asarray(
                self.products.cpu() if isinstance(self.products, torch.Tensor) else self.products,
                np.float64,
            )
            / scale**2
        )
        made = no_pairs()
        for i, j in combinations(range(len(self.sites)), 2):
            both = np.flatnonzero(self.reached[i] & self.reached[j])
            if not len(both):
                continue
            squares_i, squares_j, inner = (
                products[i, i, both],
                products[j, j, both],
                products[i, j, both],
            )
            if self._is_meant(i, j, squares_i.sum(), squares_j.sum()):
                continue
            columns = self.columns[both] if len(self.columns) else self.columns
            rows = np.zeros(len(columns) + 1, PAIR_DTYPE)
            rows["iteration"], rows["first"], rows["second"] = (
                iteration,
                self.sites[i],
                self.sites[j],
            )
            rows["parameter"] = [-1, *columns]
            num = len(rows)
            with np.errstate(invalid="ignore", divide="ignore"):
                rows["first_norm"] = np.sqrt([squares_i.sum(), *squares_i])[:num]
                rows["second_norm"] = np.sqrt([squares_j.sum(), *squares_j])[:num]
                norms: FloatArray = rows["first_norm"] * rows["second_norm"]
                product = np.array([inner.sum(), *inner])[:num]
                cosine = np.where(norms > 0, product / norms, math.nan)
            rows["cosine"] = np.where(np.isfinite(cosine), np.clip(cosine, -1, 1), math.nan)
            made = np.concatenate([made, rows])
        return made

    def _is_meant(self, i: int, j: int, square_i: float, square_j: float) -> bool:
        """Return whether of two losses the script makes the smaller one small."""
        if self.weights is None:
            return False
        small, large = (i, j) if square_i < square_j else (j, i)
        return self.weights[small] < min(1.0, self.weights[large])


@dataclass(frozen=True, slots=True)
class GradientSnapshot:
    """A gradient before a backward, with the means to detect a change."""

    copy: torch.Tensor | None
    mark: tuple[int, int] | None

    @staticmethod
    def of(parameter: torch.Tensor) -> GradientSnapshot:
        """Take a snapshot of the current gradient."""
        grad = parameter.grad
        return (
            GradientSnapshot(None, None)
            if grad is None or not is_readable(grad)
            else GradientSnapshot(grad.detach().clone(), (id(grad), grad._version))
        )

    def added(self, parameter: torch.Tensor) -> torch.Tensor | None:
        """Return what was added since; `None` where nothing was."""
        grad = parameter.grad
        if (
            grad is None
            or grad.layout is not torch.strided
            or (id(grad), grad._version) == self.mark
            or not is_readable(grad)
        ):
            return None
        with torch.no_grad():
            return grad.detach().clone() if self.copy is None else grad.detach() - self.copy


@dataclass(slots=True)
class PerLossGradients:
    """Separates what the backwards of one optimizer's window add, on some of the windows that have
    several losses.

    Losses are distinguished by the line that backpropagates them, or, on one line, by their turn,
    if they share a forward pass. That a window has several is known once one has gone by.
    """

    _parameters: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    sites: list[int] = field(default_factory=list[int])  # of this window's backwards
    _same_forward: bool = True  # all but the first of them
    _parts: list[Part] = field(default_factory=list[Part])
    _before: list[GradientSnapshot] = field(default_factory=list["GradientSnapshot"])
    several: bool = False  # whether the previous window had several losses
    _num_several: int = 0
    taking: bool = False  # whether this window is being compared
    is_clear: bool = True  # nothing of this window is kept

    def backward_begins(self, held: Callable[[], list[torch.Tensor]]) -> None:
        """Keep snapshots, so that the added gradients can be computed."""
        self.is_clear = False
        if (
            not self.sites
            and self.several
            and (self._num_several < FIRST or self._num_several % SAMPLE_EVERY == 0)
        ):
            self._parameters = held()
            self.taking = _can_be_copied(self._parameters)
        if self.taking:
            self._before = [GradientSnapshot.of(p) for p in self._parameters]

    def backward_heard(self, site: int, shared: bool) -> None:
        """Note a loss of the window, backpropagated at this site. `shared`: it shares its forward
        pass with the previous one.
        """
        self.is_clear = False
        self._same_forward &= shared or not self.sites
        self.sites.append(site)

    def backward_ends(self) -> None:
        """Compute what was added."""
        if len(self.sites) > MAX_LOSSES or len(self._before) != len(self._parameters):
            self.taking = False
            return
        self._parts.append(
            [before.added(p) for p, before in zip(self._parameters, self._before, strict=True)]
        )
        self._before = []

    def step_ends(
        self, column: Callable[[torch.Tensor], int], scale: Scalar | None
    ) -> ComparedLosses | None:
        """Return the comparison of the window's losses, if they were compared."""
        sites, parts, parameters, taking = (
            tuple(self.sites),
            self._parts,
            self._parameters,
            self.taking,
        )
        self.several = 2 <= len(sites) <= MAX_LOSSES and (
            self._same_forward or len(set(sites)) == len(sites)
        )
        self._num_several += self.several
        self.clear()
        if not (taking and self.several and len(parts) == len(sites)):
            return None
        reached = np.array([[gradient is not None for gradient in part] for part in parts])
        return ComparedLosses(
            sites,
            np.array([column(p) for p in parameters], np.int64),
            _products(parts),
            reached,
            scale,
        )

    def clear(self) -> None:
        """Forget the window: it was discarded, or is over."""
        self.sites, self._parts, self._before, self._parameters = [], [], [], []
        self.taking, self._same_forward, self.is_clear = False, True, True


def _can_be_copied(held: list[torch.Tensor]) -> bool:
    plain = all(
        type(p) in (torch.Tensor, torch.nn.Parameter) and not p.is_complex() and not p.is_meta
        for p in held
    )
    return plain and sum(p.numel() for p in held) <= MAX_SCALARS


def _products(parts: list[Part]) -> torch.Tensor:
    """Return the inner products in double precision  # (L, L, P)."""
    num = len(parts)
    result: list[torch.Tensor] = []
    with torch.no_grad():
        for of_losses in zip(*parts, strict=True):
            flat = [None if g is None else g.reshape(-1).double() for g in of_losses]
            device = next((g.device for g in flat if g is not None), None)
            zero = torch.zeros((), dtype=torch.float64, device=device)
            cells = [
                zero if flat[i] is None or flat[j] is None else torch.dot(flat[i], flat[j])  # pyright: ignore[reportArgumentType]
                for i in range(num)
                for j in range(num)
            ]
            result.append(torch.stack(cells).reshape(num, num))
        devices = {each.device for each in result}
        return torch.stack(result if len(devices) == 1 else [each.cpu() for each in result], dim=-1)
