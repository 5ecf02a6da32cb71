"""Split what a layer does to the signal on its way back into what the activation does and what the
weights do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seismograd.analysis.signal_chain import Link, Part, chain_of
from seismograd.schema import SampleBatch

MIN_LAYERS = 2  # between the first and the last but one
LAYERS = (Part.WEIGHTS, Part.SUM)


@dataclass(frozen=True, slots=True)
class SignalSplit:
    """One sampled step: each of `num_layers` layers multiplies the signal by `gain`, the product of
    `by_activation`, `by_weights` and `by_rest` (normalisation, pooling, residual sums); `total` of
    what arrives at `last` is left at the output of `first`.

    `activation` is what most of the activations are, empty without one; `saturated` is their mean
    share, NaN where it is not known. `num_sums`: sums with a bypass on the way.
    """

    step: int
    first: str
    last: str
    num_layers: int
    total: float
    gain: float
    activation: str
    by_activation: float
    by_weights: float
    by_rest: float
    saturated: float
    num_sums: int

    @property
    def init_gain(self) -> float:
        """Return the factor that weights must have for the signal to keep its size: the `gain` of
        `nn.init.xavier_normal_`, which gives square weights just this factor.
        """
        rest = self.by_activation * self.by_rest
        return 1 / rest if rest > 0 else math.inf

    @property
    def scale(self) -> float:
        """Return by how much the weights would have to be multiplied for that."""
        return 1 / self.gain if self.gain > 0 else math.inf


def split_of(batch: SampleBatch) -> SignalSplit | None:
    """Return the split of a sampled step; `None` where too few layers follow each other."""
    return split_of_chain(chain_of(batch), batch.step)


def split_of_chain(chain: Sequence[Link], step: int) -> SignalSplit | None:
    """Return the split of a chain between its first and its last but one layer: the last one, which
    the loss reads, is seldom like the others.
    """
    layers = [at for at, link in enumerate(chain) if link.part in LAYERS]
    if len(layers) < MIN_LAYERS + 2:
        return None
    first, last = layers[0], layers[-2]
    passed = chain[first + 1 : last + 1]
    num_layers = len(layers) - 2
    kinds = Counter(link.subject.type for link in passed if link.part is Part.ACTIVATION)
    shares = [link.saturated for link in passed if not math.isnan(link.saturated)]
    total = chain[first].signal / chain[last].signal
    return SignalSplit(
        step=step,
        first=chain[first].subject.name,
        last=chain[last].subject.name,
        num_layers=num_layers,
        total=total,
        gain=total ** (1 / num_layers),
        activation=kinds.most_common(1)[0][0] if kinds else "",
        by_activation=_mean(passed, (Part.ACTIVATION,), num_layers),
        by_weights=_mean(passed, (Part.WEIGHTS,), num_layers),
        by_rest=_mean(passed, (Part.REST, Part.SUM), num_layers),
        saturated=sum(shares) / len(shares) if shares else math.nan,
        num_sums=sum(link.part is Part.SUM for link in passed),
    )


def _mean(links: Iterable[Link], parts: Sequence[Part], num_layers: int) -> float:
    """Return the product of what these parts do, spread over the layers."""
    logs = (math.log(link.factor) for link in links if link.part in parts and link.factor > 0)
    return math.exp(sum(logs) / num_layers)
