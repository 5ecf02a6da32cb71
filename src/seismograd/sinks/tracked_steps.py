"""The numbers that trackers get of each step, from the rows of the record.

Shapes: B steps of a block, P parameters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from seismograd.schema import (
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    AnyArray,
    FloatArray,
    Parameter,
    RowBatch,
    State,
    StepFlag,
)
from seismograd.sinks.module_groups import module_groups
from seismograd.sinks.tracker import Histogram, TrackedStep

LOG_GRADIENT = "log2_gradient"
CLIP_STEPS = 100  # of which the share of clipped steps is taken


class TrackedSteps:
    """Reads blocks in order; remembers the modules, and which of the last steps were clipped."""

    def __init__(self) -> None:
        self._parameters: tuple[Parameter, ...] = ()
        self._groups = module_groups(())
        self._roots = np.empty(0)
        self._clipped: deque[bool] = deque(maxlen=CLIP_STEPS)

    def read(self, block: RowBatch) -> Iterator[TrackedStep]:
        """Yield what is sent of each step."""
        if block.parameters != self._parameters:
            self._parameters = block.parameters
            self._groups = module_groups(block.parameters)
            self._roots = np.sqrt([max(1, each.numel) for each in block.parameters])
        norms = np.asarray(block.values["grad_norm"], float)  # (B, P)
        there = block.state > State.ABSENT
        modules = {
            f"module/{name}": _whole(norms[:, columns], there[:, columns])
            for name, columns in self._groups.items()
        }
        ratios = block.values.get("update_ratio")
        exponents = dict(
            zip(block.sample_rows.tolist(), block.samples.get("exponents", ()), strict=False)
        )
        for row, step in enumerate(block.steps):
            scalars = self._of_step(step, block.state[row])
            if ratios is not None:
                probed = ratios[row][~np.isnan(ratios[row])]
                if len(probed):
                    scalars["update_ratio"] = float(np.median(probed))
            worst, ratio = self._worst(norms[row], block.state[row])
            if worst is not None:
                scalars["worst_layer_ratio"] = ratio
            for name, (values, measured) in modules.items():
                if measured[row]:
                    scalars[name] = float(values[row])
            yield TrackedStep(
                int(step["iteration"]),
                float(step["time_s"]),
                scalars,
                "" if worst is None else self._parameters[worst].name,
                self._histograms(exponents[row]) if row in exponents else {},
            )

    def _of_step(self, step: Any, state: AnyArray) -> dict[str, float]:
        nonfinite = int(np.count_nonzero(state == State.NONFINITE))
        found = {
            # The state goes with each number: a tracker may draw a NaN as nothing at all.
            "state": float(state.max(initial=State.NOT_MEASURED)),
            "nonfinite_parameters": float(nonfinite),
        }
        if not step["flags"] & StepFlag.NO_LOSS:
            found["loss"] = float(step["loss"])
        for name, key in (("grad_norm", "grad_norm"), ("applied_norm", "applied_norm")):
            # NaN without a non-finite gradient: it was not measured.
            if nonfinite or not np.isnan(step[key]):
                found[name] = float(step[key])
        if not np.isnan(step["clip_coefficient"]):
            found["clip_coefficient"] = float(step["clip_coefficient"])
            self._clipped.append(bool(step["clip_coefficient"] < 1))
            found["clip_share"] = sum(self._clipped) / len(self._clipped)
        return found

    def _histograms(self, exponents: AnyArray) -> dict[str, Histogram]:
        """Return the histograms of all gradients and of each module  # exponents: (P, H)."""
        counts = np.where(np.isnan(np.asarray(exponents, float)), 0.0, exponents)
        found = {LOG_GRADIENT: _histogram(counts.sum(axis=0))}
        if len(self._groups) > 1:
            for name, columns in self._groups.items():
                found[f"{LOG_GRADIENT}/{name}"] = _histogram(counts[columns].sum(axis=0))
        return {name: each for name, each in found.items() if each.counts}

    def _worst(self, norms: FloatArray, state: AnyArray) -> tuple[int | None, float]:
        """Return the parameter whose gradient's root mean square is the furthest from the median of
        all, and their ratio; one that is not finite before all others.
        """
        broken = np.flatnonzero(state == State.NONFINITE)
        if len(broken):
            return int(broken[0]), float(norms[broken[0]])
        finite = np.flatnonzero((state == State.FINITE) & (norms > 0))
        if not len(finite):
            return None, np.nan
        sizes = norms[finite] / self._roots[finite]
        ratios = sizes / np.median(sizes)
        furthest = int(np.argmax(np.abs(np.log(ratios))))
        return int(finite[furthest]), float(ratios[furthest])


def _histogram(counts: FloatArray) -> Histogram:
    """Return the bins from the first to the last that is not empty."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return Histogram((), ())
    first, stop = int(filled[0]), int(filled[-1]) + 1
    edges = HISTOGRAM_FIRST_EXPONENT + HISTOGRAM_EXPONENTS_PER_BIN * np.arange(first, stop + 1)
    return Histogram(tuple(edges.astype(float).tolist()), tuple(counts[first:stop].tolist()))


def _whole(norms: FloatArray, there: AnyArray) -> tuple[FloatArray, AnyArray]:
    """Return the norm of several gradients as one, and where any of them was measured  # (B,)."""
    measured = np.where(there, norms, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        # Divided by the largest, whose square may be too large for a double.
        largest = np.max(measured, axis=1)
        scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
        whole = scale * np.sqrt(np.sum((measured / scale[:, None]) ** 2, axis=1))
    return whole, np.asarray(there.any(axis=1))
