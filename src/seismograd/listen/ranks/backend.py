"""Between the session and the backend: measure what this process holds, and note which part that is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seismograd.listen.ranks.checksum import Checksum
from seismograd.listen.ranks.pieces import Pieces, any_distributed, held_part
from seismograd.measure.backend import Backend, Measured
from seismograd.measure.quiet import is_capturing

PLAIN = {Tensor}


class LocalBackend:
    """A backend that is given the local parts of DTensors, so that counts are of what is there."""

    def __init__(self, backend: Backend, pieces: Pieces) -> None:
        self._backend, self._pieces = backend, pieces
        self.checksum: Checksum | None = None  # of the weights, when somebody wants it

    @property
    def name(self) -> str:
        """The name of the backend that measures."""
        return self._backend.name

    def measure(
        self, gradients: Sequence[Tensor], weights: Sequence[Tensor], keys: Sequence[int], scalars: Sequence[Tensor], sample: bool
    ) -> Measured:
        """Measure; see `Backend.measure`."""
        if any_distributed() and not set(map(type, gradients)) <= PLAIN:
            for column, gradient in zip(keys, gradients, strict=True):
                self._pieces.see(column, gradient)
            gradients, scalars = [held_part(g) for g in gradients], [held_part(s) for s in scalars]
            if sample or self.checksum is not None:
                weights = [held_part(w) for w in weights]
        else:
            scalars = [held_part(s) for s in scalars]
            self._pieces.see_plain(keys)
        if self.checksum is not None and not is_capturing():
            self.checksum.add(keys, weights)
        measured = self._backend.measure(gradients, weights, keys, scalars, sample)
        if self._pieces.has_summands:
            if measured.pending is not None:
                measured.pending.finish()
            for column, gradient, norm in zip(keys, gradients, measured.values["grad_norm"], strict=True):
                self._pieces.keep_summand(column, gradient, float(norm))
        return measured
