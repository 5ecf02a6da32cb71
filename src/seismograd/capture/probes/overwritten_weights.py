"""Detect weights that something other than an optimizer changes between two steps.

A few scalars of a few weights are compared: what the last step left, and what the next one finds.
What ends as it began (weights that were replaced for a validation and put back) shows no change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.cuda import is_initialized

from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import parameters_below
from seismograd.capture.probes.outer_steps import is_within_writing_step
from seismograd.capture.probes.weight_slice import (
    WeightSlice,
    can_be_followed,
    have_changed,
    keep_all,
)
from seismograd.capture.source.statements import statement_at
from seismograd.measure.native import tensor_reads
from seismograd.schema import FactKind, FloatArray
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import in_own_context

NUM_WEIGHTS = 4  # of each optimizer
MIN_CHANGED = 0.5  # of the scalars: a checkpoint or an average changes all of them
INTERPOLATED = (0.02, 0.98)  # parts of the way which Lookahead and Reptile go back
NEARLY = 1e-3
STRAIGHT = 1e-4  # deviation from the way, but for what rounding does
MAX_WAITS = 64  # comparisons of an optimizer for which a device is waited for


@dataclass(slots=True)
class Followed:
    """The followed weights of one optimizer."""

    num_made: int  # which of the optimizers that took each other's place
    slices: list[WeightSlice]
    begun_at: int  # number of the step with which the phase began
    is_loaded: bool = False  # the optimizer's state was loaded as well: another training begins
    site: int = -1  # where a module with these weights was loaded since the last step
    times: int = 0
    num_waits: int = 0

    @classmethod
    def of(cls, window: OptimizerWindow, num_holders: Mapping[int, int]) -> Followed:
        """Choose weights from the first to the last, and scalars in the middle of each: of those
        that no other optimizer may change.
        """
        weights = [p for p in window.held() if num_holders[id(p)] == 1 and can_be_followed(p)]
        chosen = weights[:: max(1, -(-len(weights) // NUM_WEIGHTS))]
        followed = cls(
            window.num_made,
            [WeightSlice.of(p) for p in chosen],
            window.num_steps,
        )
        for each in followed.slices:
            each.start = each.read(each.weight())
        return followed

    def undone(self, num_steps: int) -> tuple[float, bool]:
        """Return which part of the way that the steps of this phase had made was undone, and
        whether the weights are the same as at its beginning; another phase begins, after so many
        steps. 0 where nothing was, or where the weights were interpolated on purpose. Where they
        were clipped, rescaled or masked, or changed by no more than rounding (as when something is
        added and taken away again), the phase goes on.
        """
        ways: list[FloatArray] = []
        backs: list[FloatArray] = []
        befores: list[FloatArray] = []
        nows = [each.read(each.weight()) for each in self.slices]
        rounding = 0.0
        for each, now in zip(self.slices, nows, strict=True):
            if now is not None and each.kept is not None and each.start is not None:
                start, before, after = map(each.numbers, (each.start, each.kept, now))
                if not _is_constraint(before, after):
                    ways.append((before - start).ravel())
                    backs.append((before - after).ravel())
                    befores.append(before.ravel())
                    rounding += torch.finfo(each.dtype).eps * float(np.linalg.norm(after))
        if not ways:
            return 0.0, False
        way, back = np.concatenate(ways), np.concatenate(backs)
        if np.mean(back != 0) < MIN_CHANGED or _is_rounding(way, back, rounding):
            return 0.0, False
        self.begun_at = num_steps
        for each, now in zip(self.slices, nows, strict=True):
            each.start = now
        length = float(way @ way)
        if not 0 < length < np.inf:
            return 0.0, False
        if _is_interpolated(way, back, np.concatenate(befores), rounding):
            return 0.0, False
        return float(way @ back) / length, bool((back == way).all())


@dataclass(slots=True)
class OverwrittenWeights:
    """Inspects the weights of each optimizer between its steps."""

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    _followed: dict[int, Followed] = field(default_factory=dict[int, Followed])
    _windows: tuple[OptimizerWindow, ...] = ()
    _num_holders: Counter[int] = field(default_factory=Counter[int])  # by the id of the weight

    def state_loads(self, _: ThreadState, owner: Any, __: object) -> None:
        """A module or an optimizer is about to be given a saved state."""
        if isinstance(owner, torch.optim.Optimizer):
            window = self.registry.known(owner)
            if window is not None and window.index in self._followed:
                self._followed[window.index].is_loaded = True
            return
        if not self._followed or not isinstance(owner, torch.nn.Module):
            return
        ids = {id(p) for p in parameters_below(owner)}
        for followed in self._followed.values():
            if any(id(each.weight()) in ids for each in followed.slices):
                followed.site = self.log.call_sites.here(OWN_FRAMES)

    def step_begins(
        self, window: OptimizerWindow, windows: tuple[OptimizerWindow, ...], is_allowed: bool
    ) -> None:
        """Compare the weights with what the last step left. `windows` are those of all
        optimizers; unless `is_allowed`, no more weights are followed.
        """
        if window.steps_within or (is_initialized() and is_capturing()):
            return
        if windows is not self._windows:
            self._windows = windows
            self._followed.clear()
            self._num_holders = Counter(id(p) for each in self._windows for p in each.held())
        followed = self._followed.get(window.index)
        if followed is None or followed.num_made != window.num_made or followed.is_loaded:
            if is_allowed:
                self._followed[window.index] = Followed.of(window, self._num_holders)
            return
        if tensor_reads.unchanged(followed.slices) or not have_changed(followed.slices):
            return
        if any(isinstance(each.kept, torch.Tensor) for each in followed.slices):
            followed.num_waits += 1
            if followed.num_waits > MAX_WAITS:
                return
        num_steps, site = window.num_steps - followed.begun_at, followed.site
        part, is_same = followed.undone(window.num_steps)
        followed.site = -1
        if part < NEARLY or (_is_one_of_several() and not is_same):
            return
        if site < 0 and is_within_writing_step(lambda each: self.registry.known(each) is window):
            return
        followed.times += 1
        if is_looked_at(followed.times):
            self._report(window, followed, site, part, is_same, num_steps)

    def step_ends(self, window: OptimizerWindow, is_allowed: bool) -> None:
        """Remember the weights as the step leaves them, where there is time for that."""
        followed = self._followed.get(window.index)
        if followed is None or window.steps_within or (is_initialized() and is_capturing()):
            return
        if not is_allowed:
            del self._followed[window.index]
            return
        if not tensor_reads.keep(followed.slices):
            keep_all(followed.slices)

    def _report(
        self,
        window: OptimizerWindow,
        followed: Followed,
        site: int,
        part: float,
        is_same: bool,
        num_steps: int,
    ) -> None:
        table = self.registry.parameter_table
        weights = [weight for each in followed.slices if (weight := each.weight()) is not None]
        step = window.step_heard
        load = self.log.call_sites.sites[site] if site >= 0 else None
        self.facts.report(
            FactKind.WEIGHTS_OVERWRITTEN,
            site=site if site >= 0 or step is None else step.site,
            optimizer=window.index,
            parameters=[table.parameters[table.column(p)].name for p in weights if p in table],
            name=window.name,
            times=followed.times,
            undone=min(part, 1.0),
            same=int(is_same),
            loaded=int(site >= 0),
            steps=num_steps,
            text="" if load is None else statement_at(load.file, load.line),
        )


def _is_constraint(before: FloatArray, after: FloatArray) -> bool:
    """Return whether the weights were clipped or masked (all that changed have one size now), or
    rows or columns of them multiplied by a number, as by a decay or a limit on their norms.
    """
    if len(np.unique(np.abs(after[before != after]))) == 1:
        return True
    for axis in (0, 1):
        square = (before * before).sum(axis=axis, keepdims=True)
        factor = (before * after).sum(axis=axis, keepdims=True) / np.where(square > 0, square, 1)
        rest = float(np.linalg.norm(after - factor * before))
        if (factor >= 0).all() and rest < NEARLY * float(np.linalg.norm(after - before)):
            return True
    return False


@in_own_context  # as `lstsq` sets NumPy's modes
def _is_interpolated(
    way: FloatArray, back: FloatArray, before: FloatArray, rounding: float
) -> bool:
    """Return whether the weights went straight back, some part of the way, where all of them may
    have been multiplied by one number as well, as by a decay, or some set to zero by a mask.
    """
    kept = back != before
    way, back, before = way[kept], back[kept], before[kept]
    limit = STRAIGHT * float(np.linalg.norm(back)) + rounding
    for directions in (way[:, None], np.stack([way, before], axis=1)):
        parts = np.linalg.lstsq(directions, back, rcond=None)[0]  # NumPy 1 warns without
        across = float(np.linalg.norm(back - directions @ parts))
        if across < limit and INTERPOLATED[0] < parts[0] < INTERPOLATED[1]:
            return True
    return False


def _is_rounding(way: FloatArray, back: FloatArray, rounding: float) -> bool:
    """Return whether the weights changed by next to nothing, and did not come back."""
    change = float(np.linalg.norm(back))
    is_small = change <= max(rounding, NEARLY * float(np.linalg.norm(way)))
    return is_small and not (back == way).all()


def _is_one_of_several() -> bool:
    """Return whether other processes train with this one: they may average their weights."""
    distributed = torch.distributed
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )
