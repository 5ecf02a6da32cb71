"""Find out what processes exchange other than gradients that all of them then have."""

from __future__ import annotations

from enum import Enum

from seismograd.capture.loop.gradient_reductions import MAX_SCALARS

SCATTERING = frozenset({"reduce_scatter", "reduce_scatter_single", "reduce_scatter_tensor"})


class Exchange(Enum):
    """What processes have exchanged other than gradients that all of them then have."""

    NOTHING = 0
    ACTIVATIONS = 1  # or anything else that has more than a few scalars
    SHARDS = 2  # parts of a reduced tensor


class ExchangeTracker:
    """Sees the collectives of a process, and knows what it has exchanged with others by now: stages
    and shards exchange activations, and replicas do not. `is_reducing`: between a backward and the
    next step or backward, when collectives are reductions of gradients.
    """

    def __init__(self) -> None:
        self.is_reducing = False
        self._num_exchanged = 0  # collectives of tensors that are no gradients
        self._has_scattered = False  # gradients, of which each process has a part then

    def collective_ends(self, name: str, numel: int) -> None:
        """Count a collective of so many scalars."""
        if numel > MAX_SCALARS and not self.is_reducing:
            self._num_exchanged += 1
        self._has_scattered |= name in SCATTERING

    def exchange(self) -> Exchange:
        """Return what this process has exchanged with others."""
        if self._has_scattered:
            return Exchange.SHARDS
        return Exchange.ACTIVATIONS if self._num_exchanged else Exchange.NOTHING
