"""The gradient over depth at one step: of the modules where they were sampled, else of the weights
of the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seismograd.analysis.profile_layers import chains_of
from seismograd.analysis.signal_chain import chain_of
from seismograd.analysis.signal_split import LAYERS
from seismograd.record.reader import Run
from seismograd.schema import SampleBatch
from seismograd.views.step import read_step


@dataclass(frozen=True, slots=True)
class DepthPoint:
    """A layer, nearest the input first, and the size of what reaches it on the way back;
    `is_asked`: it was asked for by name.
    """

    name: str
    type: str
    size: float
    is_asked: bool = False


def points_of_sample(batch: SampleBatch) -> tuple[DepthPoint, ...]:
    """Return the layers on the longest way of a sample, by the RMS of their signal."""
    return tuple(
        DepthPoint(link.subject.name, link.subject.type, link.signal)
        for link in chain_of(batch)
        if link.part in LAYERS
    )


def points_of_gradients(run: Run, row: int) -> tuple[DepthPoint, ...]:
    """Return the layers of the longest chain by the norms of their weights' gradients."""
    layers = chains_of(run.parameters)[0]
    columns = [int(column) for column in layers.columns[: len(layers)]]
    if not columns:
        return ()
    return tuple(
        DepthPoint(
            each.parameter.name, each.parameter.module, each.norm if each.measured else math.nan
        )
        for each in read_step(run, row, columns).gradients
    )
