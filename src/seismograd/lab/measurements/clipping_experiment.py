"""Show what clipping does: by norm against by value, one factor for all scalars, and one bad batch
in a training with and without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.lab.digits import cut, digits, small_net
from seismograd.lab.tensor_math import gradient_of, norm_of

BATCH, STEPS, LEARNING_RATE = 64, 60, 0.1
BAD_STEP, BAD_SCALE = 20, 255.0  # one batch that was not divided by 255
MAX_NORM = 1.0
SHOWN, SMALL_RANK = 6, 0.9  # scalars in the table; the rank of the smallest
HALVINGS = 40  # of the interval in which the value is sought that leaves the same norm


@dataclass(frozen=True, slots=True)
class ClippedScalar:
    """A scalar of a gradient: as backward left it, and after clipping by norm and by value."""

    name: str
    before: float
    by_norm: float
    by_value: float


@dataclass(frozen=True, slots=True)
class ClippedGradient:
    """A gradient that was clipped: whole norm, and cosine to what it was."""

    norm: float
    cosine: float


@dataclass(frozen=True, slots=True)
class ClippedTraining:
    """A training with one bad batch: loss, norm before clipping and the factor that clipping used
    (1: nothing was clipped), each step  # (STEPS,).
    """

    losses: tuple[float, ...]
    norms: tuple[float, ...]
    factors: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ClippingResult:
    """The results of the experiment."""

    norm: float  # of the gradient before clipping
    max_norm: float
    max_value: float
    factor: float  # by which clip_grad_norm_ multiplied each scalar
    factor_spread: float  # the largest difference of a scalar's own factor from it, relative
    scalars: tuple[ClippedScalar, ...]
    by_norm: ClippedGradient
    by_value: ClippedGradient
    unclipped: ClippedTraining
    clipped: ClippedTraining
    clipped_late: ClippedTraining  # after step() instead of before it


def measure() -> ClippingResult:
    """Run the experiment."""
    before = _gradients(lambda _: None)
    norm = norm_of(*before.values())
    max_norm = norm / 2
    max_value = _value_for(before, max_norm)
    by_norm = _gradients(lambda model: nn.utils.clip_grad_norm_(model.parameters(), max_norm))
    by_value = _gradients(lambda model: nn.utils.clip_grad_value_(model.parameters(), max_value))
    factor = norm_of(*by_norm.values()) / norm
    ratios = torch.cat(
        [(by_norm[n] / g)[g.abs() > g.abs().max() * 1e-3].double() for n, g in before.items()]
    )
    return ClippingResult(
        norm,
        max_norm,
        max_value,
        factor,
        float((ratios / factor - 1).abs().max()),
        _scalars(before, by_norm, by_value),
        _compared(before, by_norm),
        _compared(before, by_value),
        train("never"),
        train("before step"),
        train("after step"),
    )


def _value_for(gradients: dict[str, Tensor], norm: float) -> float:
    """Return where to cut every scalar so that the whole norm is `norm`: both ways of clipping
    then leave equally much.
    """
    low, high = 0.0, max(float(g.abs().max()) for g in gradients.values())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if norm_of(*(g.clamp(-middle, middle) for g in gradients.values())) < norm:
            low = middle
        else:
            high = middle
    return high


def _gradients(clip: Callable[[nn.Module], object]) -> dict[str, Tensor]:
    """Return the gradients of one batch after `clip`."""
    images, labels = digits(BATCH)
    model = small_net()
    F.cross_entropy(model(images), labels).backward()
    clip(model)
    return {name: gradient_of(p).clone() for name, p in model.named_parameters()}


def _scalars(
    before: dict[str, Tensor], by_norm: dict[str, Tensor], by_value: dict[str, Tensor]
) -> tuple[ClippedScalar, ...]:
    """Return scalars of fc2.weight from the largest magnitude down to a small one."""
    flat = before["fc2.weight"].flatten()
    order = flat.abs().argsort(descending=True)
    chosen = [int(order[k]) for k in torch.linspace(0, len(order) * SMALL_RANK, SHOWN).long()]
    columns = before["fc2.weight"].shape[1]
    return tuple(
        ClippedScalar(
            f"fc2.weight[{k // columns}, {k % columns}]",
            float(flat[k]),
            float(by_norm["fc2.weight"].flatten()[k]),
            float(by_value["fc2.weight"].flatten()[k]),
        )
        for k in chosen
    )


def _compared(before: dict[str, Tensor], after: dict[str, Tensor]) -> ClippedGradient:
    product = sum(float((before[n].double() * after[n].double()).sum()) for n in before)
    norm = norm_of(*after.values())
    return ClippedGradient(norm, product / norm / norm_of(*before.values()))


def train(clip: str) -> ClippedTraining:
    """Train with one batch that was not normalized, clipped "never", "before step" or "after
    step".
    """
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    losses: list[float] = []
    norms: list[float] = []
    factors: list[float] = []
    for step, (inputs, targets) in enumerate(cut(*digits(BATCH * STEPS), BATCH)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs * (BAD_SCALE if step == BAD_STEP else 1)), targets)
        loss.backward()
        norm = norm_of(*map(gradient_of, model.parameters()))
        if clip == "before step":
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        factors.append(norm_of(*map(gradient_of, model.parameters())) / norm if norm else 1.0)
        optimizer.step()
        if clip == "after step":
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        losses.append(float(loss.detach()))
        norms.append(norm)
    return ClippedTraining(tuple(losses), tuple(norms), tuple(factors))
