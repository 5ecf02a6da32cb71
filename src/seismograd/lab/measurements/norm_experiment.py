"""Show that no absolute number says whether a norm is healthy, and what a norm hides: the same
training at many norms, and a dead layer under a usual one.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.lab.digits import cut, digits
from seismograd.lab.tensor_math import gradient_of, norm_of

BATCH, STEPS, LEARNING_RATE = 64, 60, 1e-3
LAST = 10  # steps at the end whose losses are averaged
FACTOR = 1000.0
SMALL_BATCH, NARROW, WIDTH, WIDE = 4, 64, 256, 1024
HIDDEN = 128
DEAD_BIAS = -20.0  # no digit has enough ink to lift a unit of the first layer above it


@dataclass(frozen=True, slots=True)
class Variant:
    """A training that learns: the median of the whole gradient's norm over its steps, and the
    loss at the first step and averaged over the last ones.
    """

    norm: float
    first_loss: float
    last_loss: float


@dataclass(frozen=True, slots=True)
class NetworkNorms:
    """A network of three layers: the norm of each parameter's gradient, of all together, and
    the loss after training.
    """

    norms: dict[str, float]
    total: float
    last_loss: float


@dataclass(frozen=True, slots=True)
class NormResult:
    """The results of the experiment."""

    plain: Variant
    scaled_up: Variant  # the loss times `FACTOR`
    scaled_down: Variant
    small_batch: Variant
    narrow: Variant
    wide: Variant
    alive: NetworkNorms
    dead: NetworkNorms


def measure() -> NormResult:
    """Run the experiment."""
    with torch.random.fork_rng(devices=[]):
        return NormResult(
            _variant(),
            _variant(scale=FACTOR),
            _variant(scale=1 / FACTOR),
            _variant(batch=SMALL_BATCH),
            _variant(width=NARROW),
            _variant(width=WIDE),
            _layers(dead=False),
            _layers(dead=True),
        )


def _variant(scale: float = 1.0, batch: int = BATCH, width: int = WIDTH) -> Variant:
    model = _network(784, width, 10)
    losses, norms = _train(model, scale, batch)
    return Variant(statistics.median(norms), losses[0], statistics.fmean(losses[-LAST:]))


def _layers(dead: bool) -> NetworkNorms:
    model = _network(784, HIDDEN, HIDDEN, 10)
    if dead:
        with torch.no_grad():
            model.get_parameter("0.bias").fill_(DEAD_BIAS)
    images, labels = digits(BATCH)
    F.cross_entropy(model(images), labels).backward()
    norms = {name: norm_of(gradient_of(p)) for name, p in model.named_parameters()}
    total = norm_of(*(gradient_of(p) for p in model.parameters()))
    losses, _ = _train(model, 1.0, BATCH)
    return NetworkNorms(norms, total, statistics.fmean(losses[-LAST:]))


def _network(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _train(model: nn.Module, scale: float, batch: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return the losses, without their scale, and the norms of what Adam was given."""
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    losses: list[float] = []
    norms: list[float] = []
    for inputs, targets in cut(*digits(batch * STEPS), batch):
        optimizer.zero_grad()
        loss: Tensor = F.cross_entropy(model(inputs), targets)
        (loss * scale).backward()
        losses.append(float(loss.detach()))
        norms.append(norm_of(*map(gradient_of, model.parameters())))
        optimizer.step()
    return losses, norms
