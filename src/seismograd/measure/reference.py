"""Measure with plain torch operations: the definition of correct, and what works on every
device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seismograd.measure.backend import Measurement
from seismograd.measure.statistics import FORMULAS
from seismograd.measure.statistics.dead_rows import DeadRows
from seismograd.measure.statistics.formula import Formula
from seismograd.measure.statistics.zeros import ZEROS
from seismograd.measure.tensor_batches import TensorBatch, batches
from seismograd.measure.transfer import Parcel
from seismograd.schema import STATISTICS, FloatArray
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import without_user_modes
from seismograd.tensors.readable import readable

SAMPLED = frozenset(statistic.name for statistic in STATISTICS if statistic.sampled)
OF_WEIGHTS, OF_GRADIENTS = (
    tuple(
        formula
        for formula in FORMULAS
        for statistic in STATISTICS
        if formula.name == statistic.name and statistic.subject == subject
    )
    for subject in ("weight", "gradient")
)
OF_GRADIENTS_EVERY_TIME = tuple(formula for formula in OF_GRADIENTS if formula.name not in SAMPLED)


class ReferenceBackend:
    """The backend that the others are tested against; see `backend.MeasuringBackend`.

    `waiting`: block until the copy to the host has finished; else return pending results.
    """

    name = "reference"

    def __init__(self, waiting: bool = True) -> None:
        self._waiting = waiting
        self._dead_rows = DeadRows()

    def measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure each gradient as it is now; see `backend.MeasuringBackend.measure`."""
        out = _unmeasured(len(gradients), sample)
        brought = np.full(len(scalars), np.nan)
        if is_capturing():
            gradients, scalars = [], []
        parcel = Parcel()
        with without_user_modes():
            readable_gradients = _readable(enumerate(gradients))
            for batch in batches(readable_gradients):
                _apply(OF_GRADIENTS if sample else OF_GRADIENTS_EVERY_TIME, batch, out, parcel)
                positions = [
                    position
                    for position in batch.positions
                    if gradients[position].dim() >= 2 and gradients[position].numel() > 0
                ]
                self._observe_rows(batch, positions, keys)
                if sample:
                    out["dead_rows"][batch.positions] = 0
                    if positions:
                        parcel.add(
                            self._dead_rows.take([keys[position] for position in positions]),
                            out["dead_rows"],
                            positions,
                        )
            if sample:
                for batch in batches(
                    _readable((position, weights[position]) for position, _ in readable_gradients)
                ):
                    _apply(OF_WEIGHTS, batch, out, parcel)
            for batch in batches(
                item for item in _readable(enumerate(scalars)) if item[1].numel() == 1
            ):
                parcel.add(batch.scalars().squeeze(1), brought, batch.positions)
            delivery = parcel.send()
            if self._waiting or delivery.is_done():
                delivery.finish()
        samples = {name: out.pop(name) for name in SAMPLED & out.keys()}
        return Measurement(out, samples, brought, None if self._waiting else delivery)

    def take_over_rows(self, key: int, alive: npt.NDArray[np.bool_]) -> None:
        """Take over which rows of a parameter another backend has seen alive since the last sample
        # (R,) bool.
        """
        with without_user_modes():
            self._dead_rows.observe(key, torch.from_numpy(alive))

    def _observe_rows(
        self, batch: TensorBatch, positions: Sequence[int], keys: Sequence[int]
    ) -> None:
        """Remember the rows of the gradients at `positions`, those of the batch that have rows."""
        if positions:
            alive = dict(zip(batch.positions, batch.alive_rows(), strict=True))
            for position in positions:
                self._dead_rows.observe(keys[position], alive[position])


def _readable(tensors: Iterable[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
    """Return the readable ones with their positions."""
    return [
        (position, content)
        for position, tensor in tensors
        if (content := readable(tensor)) is not None
    ]


def _unmeasured(num_gradients: int, sample: bool) -> dict[str, FloatArray]:
    """Return NaN for every statistic of every gradient, sampled ones only if `sample`  # (n,) or
    (n, W).
    """
    return {
        statistic.name: np.full(
            num_gradients if statistic.width == 1 else (num_gradients, statistic.width), np.nan
        )
        for statistic in STATISTICS
        if statistic.subject != "step" and (sample or not statistic.sampled)
    }


def _apply(
    formulas: Sequence[Formula], batch: TensorBatch, out: Mapping[str, FloatArray], parcel: Parcel
) -> None:
    """Send the results of the formulas for a batch's tensors to their positions."""
    scalars = batch.scalars()
    for formula in formulas:
        num_implied = batch.num_implied_zeros if formula is ZEROS else 0
        if scalars.shape[1] == 0:
            out[formula.name][batch.positions] = num_implied
        else:
            parcel.add(
                formula(scalars) + num_implied if num_implied else formula(scalars),
                out[formula.name],
                batch.positions,
            )
