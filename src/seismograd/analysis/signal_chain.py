"""Follow the signal back through a sampled step: by how much each call of a module multiplies it.

The chain leads from the last layer to the first. Where a sum has a bypass, as of a residual branch,
it goes past the branch, for the signal does so, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from seismograd.schema import SampleBatch, SampleSubject

ACTIVATIONS = frozenset(
    {
        "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
        "leakyrelu", "log_sigmoid", "logsigmoid", "mish", "newgeluactivation", "prelu", "relu",
        "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "tanh",
    }
)  # fmt: skip
RECURRENT = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
SUM = "add"


class Part(StrEnum):
    """What multiplies the signal."""

    WEIGHTS = "weights"
    ACTIVATION = "activation"
    SUM = "sum"
    REST = "rest"  # normalisation, dropout, pooling, attention


@dataclass(frozen=True, slots=True)
class Link:
    """A call on the chain: its position in the sample, the signal at its output, and the factor by
    which it multiplies that on its way to the call before it; NaN for the first.
    """

    position: int
    subject: SampleSubject
    part: Part
    signal: float
    factor: float = math.nan
    saturated: float = math.nan


def part_of(subject: SampleSubject) -> Part:
    """Return what a call is, by the name of its class or operation."""
    kind = subject.type
    if kind == SUM:
        return Part.SUM
    if kind.lower() in ACTIVATIONS:
        return Part.ACTIVATION
    if "Linear" in kind or "Conv" in kind or kind in RECURRENT:
        return Part.WEIGHTS
    return Part.REST


def chain_of(batch: SampleBatch) -> tuple[Link, ...]:
    """Return the longest chain with the most weights in a sample, nearest the input first; where
    the signal is zero or not finite it ends.
    """
    return max(_chains(batch), key=_length, default=())


def chains_of(batch: SampleBatch) -> tuple[tuple[Link, ...], ...]:
    """Return the longest chain, and after it those that share no layer with one before them: of
    networks beside each other, such as an actor and a critic.
    """
    found: list[tuple[Link, ...]] = []
    taken: set[str] = set()
    for chain in sorted(_chains(batch), key=_length, reverse=True):
        layers = {link.subject.name for link in chain if link.part is Part.WEIGHTS}
        if layers and not layers & taken:
            taken |= layers
            found.append(chain)
    return tuple(found)


def _chains(batch: SampleBatch) -> Iterator[tuple[Link, ...]]:
    """Yield the chain that leads to each call whose result no other reads."""
    signals, saturated = batch.column("signal_rms").tolist(), batch.column("saturated").tolist()
    read = {each.source for each in batch.subjects} | {each.bypass for each in batch.subjects}
    for position, subject in enumerate(batch.subjects):
        if position not in read and subject.time < 0:
            yield _chain(batch, signals, saturated, position)


def _chain(
    batch: SampleBatch, signals: Sequence[float], saturated: Sequence[float], last: int
) -> tuple[Link, ...]:
    links: list[Link] = []
    position = last
    seen: set[int] = set()
    while position >= 0 and position not in seen:
        seen.add(position)
        subject, signal = batch.subjects[position], float(signals[position])
        if not (math.isfinite(signal) and signal > 0):
            break
        before = subject.bypass if subject.type == SUM and subject.bypass >= 0 else subject.source
        known = 0 <= before < len(signals) and math.isfinite(signals[before])
        factor = signals[before] / signal if known else math.nan
        links.append(
            Link(position, subject, part_of(subject), signal, factor, float(saturated[position]))
        )
        position = before
    return tuple(reversed(links))


def _length(chain: Sequence[Link]) -> tuple[int, int]:
    return sum(link.part is Part.WEIGHTS for link in chain), len(chain)
