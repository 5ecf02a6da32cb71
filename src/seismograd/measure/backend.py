"""The interface and the result of every measuring backend.

Shapes: n gradients, k scalars, W numbers per gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from seismograd.schema import FloatArray

# `measure_again` of the backends that have it, for gradients of type `Tensor` and the very keys of
# the last call: the values that `measure` would return without a sample, and whether no norm is 0
# and no number not finite; or `None` where they do not lie as they did then. Nothing else has
# happened in that case.
MeasuredAgain = tuple[Mapping[str, FloatArray], bool]
MeasureAgain = Callable[[list[Tensor], tuple[int, ...]], MeasuredAgain | None]
# `sample_again`, likewise, of gradients and their weights: the samples, too.
SampledAgain = tuple[Mapping[str, FloatArray], Mapping[str, FloatArray], bool]
SampleAgain = Callable[[list[Tensor], list[Tensor], tuple[int, ...]], SampledAgain | None]
# `prepare`, likewise, of plain parameters and their keys, before they have gradients, and whether
# there will be samples. What is kept of each is made then: it takes little memory, and made behind
# the gradients it would lie between them, where it keeps their memory from being used again.
Prepare = Callable[[list[Tensor], tuple[int, ...], bool], None]


class PendingNumbers(Protocol):
    """Numbers in transfer from a device."""

    def is_done(self) -> bool:
        """Return whether they have arrived; does not wait."""
        ...

    def finish(self) -> None:
        """Wait for them if necessary, and store them where they belong. A second call does
        nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class AllPending:
    """Several transfers as one; without any they have arrived."""

    transfers: tuple[PendingNumbers, ...]

    def is_done(self) -> bool:
        """Return whether all have arrived; does not wait."""
        return all(each.is_done() for each in self.transfers)

    def finish(self) -> None:
        """Wait for all of them if necessary, and store what they bring."""
        for each in self.transfers:
            each.finish()


@dataclass(slots=True)
class Measurement:
    """The statistics of `seismograd.schema.STATISTICS` by name, except those that only the session
    can know: `carried`, `applied_norm`.

    `values` holds those of every iteration  # (n,), `samples` the sampled ones  # (n,) or (n, W),
    empty when they were not requested; `scalars` the scalars brought along  # (k,). NaN in
    `nonfinite` means that the gradient was not measured (then all its statistics are NaN), NaN in
    `weight_norm` next to a measured gradient that the weight was not finite or not measured. The
    two numbers of a complex scalar count as two. With `pending` the arrays are filled only when
    that has finished.
    """

    values: Mapping[str, FloatArray]
    samples: Mapping[str, FloatArray]
    scalars: FloatArray
    pending: PendingNumbers | None = None


class MeasuringBackend(Protocol):
    """Measures gradients. `reference.ReferenceBackend` defines the correct result; faster backends
    are tested against it.

    A backend changes nothing that the training program can see: no input, no random state, no mode
    of torch.
    """

    @property
    def name(self) -> str:
        """Return the name it is selected and reported by."""
        ...

    def measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure each gradient as it is now; one transfer to the host per device, which may still
        be under way (`Measurement.pending`).

        Args:
            gradients: one per parameter that has one, of any dtype, layout and device  # n tensors.
            weights: the parameters they belong to, in the same order; read only when `sample` is
                true.
            keys: a number that stays the parameter's own, under which its rows are remembered
                between samples.
            scalars: tensors of one element to bring over in the same transfer, such as losses  # k
                tensors.
            sample: measure the sampled statistics too.
        """
        ...
