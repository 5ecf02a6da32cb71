"""Find the largest micro-batch that fits into memory, and how many of them make the wanted
batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from seismograd.control.accumulate.peak_memory import PeakMeter, meter_for
from seismograd.control.accumulate.state_guard import (
    LossFunction,
    num_samples,
    preserved_state,
    take_samples,
)
from seismograd.errors import SeismogradError
from seismograd.i18n import say

MARGIN = 1.25  # times the limit: sizes that would need more, by extrapolation, are not tried


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """`size` samples at once, `num` times, reach the target; `peak` is the most bytes used.

    `tried` has the peak of every size that was tried, `None` where memory did not suffice or was
    expected not to.
    """

    size: int
    num: int
    peak: int
    limit: int
    tried: dict[int, int | None]


def find_micro_batch(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    target: int,
    *,
    memory_limit: int | None = None,
    meter: PeakMeter | None = None,
) -> MicroBatch:
    """Find the largest micro-batch whose forward and backward stay within a memory limit, by
    trying.

    Each size runs two backwards, so that the second finds the gradients of the first in memory, as
    in a window. The optimizer is not asked to step: call this after its first step, so that its
    state counts. The model, its buffers, gradients and modes and the random numbers are the same
    afterwards.

    Args:
        model: as it is trained.
        loss_fn: takes the model and a batch, gives a loss of one number.
        batch: some samples, as for `compare_accumulation`; repeated where there are not enough.
        target: how many samples the whole batch is to have.
        memory_limit: in bytes: of the resident memory of the process on the CPU, of torch's
            allocator on CUDA. On CUDA nine tenths of what is free and what torch has, unless given.
        meter: the meter to use instead of the one for the model's device.

    Raises:
        SeismogradError: not even one sample fits, no limit was given on the CPU, or memory cannot
            be measured here.
    """
    rows, device = num_samples(batch), next(model.parameters()).device
    if rows == 0 or target < 1:
        raise SeismogradError(
            say("the batch has no samples, or target is below 1"),
            say("pass a batch with samples and a target of at least 1"),
        )
    limit = memory_limit if memory_limit is not None else _default_limit(device)
    meter = meter or meter_for(device)
    with preserved_state(model):
        search = _Search(
            lambda size: meter.peak_of(
                lambda: _run(model, loss_fn, batch, torch.arange(size) % rows)
            ),
            limit,
        )
        size = search.largest(target)
    peak = search.tried.get(size)
    if peak is None:
        raise SeismogradError(
            say("a single sample already takes more than {limit:,} bytes", limit=limit),
            say("raise the memory limit, or use a smaller model or smaller samples"),
        )
    return MicroBatch(size, -(-target // size), peak, limit, dict(sorted(search.tried.items())))


def _default_limit(device: torch.device) -> int:
    if device.type != "cuda":
        raise SeismogradError(
            say("no memory limit was given"), say("find_micro_batch(…, memory_limit=8 * 2**30)")
        )
    free, _ = torch.cuda.mem_get_info(device)
    return int(0.9 * (free + torch.cuda.memory_reserved(device)))


class _Search:
    """Doubles the size while it fits, then bisects. If a size fits, so do smaller ones."""

    def __init__(self, peak_of: Callable[[int], int | None], limit: int) -> None:
        self._peak_of, self._limit = peak_of, limit
        self.tried: dict[int, int | None] = {}

    def largest(self, most: int) -> int:
        """Return the largest size up to `most` that fits; 0 when none does."""
        fits, size = 0, 1
        while size <= most and self._fits(size):
            fits, size = size, min(2 * size, most) if size < most else most + 1
        too_large = size
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self._fits(middle):
                fits = middle
            else:
                too_large = middle
        return fits

    def _fits(self, size: int) -> bool:
        if size not in self.tried:
            self.tried[size] = None if self._hopeless(size) else self._peak_of(size)
        peak = self.tried[size]
        return peak is not None and peak <= self._limit

    def _hopeless(self, size: int) -> bool:
        """Return whether the two largest sizes that were tried predict a peak far beyond the limit;
        trying could cost the machine its memory.
        """
        known = sorted(
            (at, peak) for at, peak in self.tried.items() if peak is not None and at < size
        )[-2:]
        if len(known) < 2:
            return False
        (first, less), (second, more) = known
        return more + (more - less) / (second - first) * (size - second) > MARGIN * self._limit


def _run(model: nn.Module, loss_fn: LossFunction, batch: Any, index: torch.Tensor) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    try:
        for _ in range(2):
            loss = loss_fn(model, take_samples(batch, index))
            # Not `backward`: hooks, sessions and other processes have no part in this.
            gradients = cast(
                "tuple[torch.Tensor | None, ...]",
                torch.autograd.grad(loss, parameters, allow_unused=True),
            )
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = (
                        gradient if parameter.grad is None else parameter.grad + gradient
                    )
            del loss, gradients
    finally:
        for parameter in parameters:
            parameter.grad = None
