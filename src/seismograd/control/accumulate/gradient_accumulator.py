"""Accumulate one window: backpropagate weighted losses, then divide the sum by the total weight,
clip and step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.hub import HUB
from seismograd.control.accumulate.replicas import Replicas
from seismograd.control.clip.step_limit import StepLimit
from seismograd.control.parameter_list import ParameterList, multiply_
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.tensors.device_scalars import Scalar, TotalWeight
from seismograd.tensors.dtensor import held_part


class SkippedStepScaler:
    """Stands in for a GradScaler where a step is skipped, so that a session records it as such."""

    def is_enabled(self) -> bool:
        """Return true, because it has skipped the step."""
        return True


class GradientAccumulator:
    """Adds up Σ wᵢ ∇lossᵢ over micro-batches and processes, and divides once, by Σ wᵢ: no count is
    needed in advance.

    Within a window weights are expressed in units of a typical one, so that scaled losses stay
    within float16's range.
    """

    def __init__(
        self,
        models: Sequence[torch.nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        scaler: Any,
        replicas: Sequence[Replicas],
    ) -> None:
        self.models, self.optimizers, self.replicas = models, optimizers, replicas
        self.scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.num_skipped = 0  # steps skipped because a gradient was not finite
        self.count = 0  # losses in this window
        self.alive = self.size  # processes that have more micro-batches
        self._shares = 0.0  # their weights, in units
        self._unit: float | None = None
        # the factor by which a session has to divide the losses: known at the end
        self._scale = TotalWeight()
        self._is_first = True

    @property
    def size(self) -> int:
        """Return how many processes train together."""
        return self.replicas[0].size

    @property
    def always_together(self) -> bool:
        """Return whether every process has to take part in every forward pass."""
        return any(each.always_together for each in self.replicas)

    @property
    def reduces_each(self) -> bool:
        """Return whether each backward has to reduce when nobody knows which is the last."""
        return any(each.reduces_each for each in self.replicas)

    def prepare(self, last: bool) -> None:
        """Prepare a forward pass; `last`: its backward is the one that reduces."""
        for each in self.replicas:
            each.prepare(last)

    def part(self) -> None:
        """Prepare a window in which not every process has a micro-batch."""
        for each in self.replicas:
            each.part()

    def restore(self) -> None:
        """Restore the models to the state they were found in."""
        for each in self.replicas:
            each.restore()

    def total(self, *numbers: float) -> list[float]:
        """Return the numbers summed over the processes."""
        return self.replicas[0].total(numbers)

    def add(self, loss: Tensor, weight: float, together: bool = False) -> None:
        """Backpropagate a loss that counts `weight`. `together`: every process does so at the same
        time.

        Raises:
            SeismogradError: the loss is not one number, or the weight not finite or below zero.
        """
        amount = _amount(loss, weight)
        if self._is_first:
            self._refuse_leftovers()
        if self._unit is None:
            self._unit = (
                amount if self.size == 1 else self.total(amount)[0] / self.size if together else 1.0
            ) or 1.0
        self.count += 1
        if amount == 0:  # a mean over nothing is NaN, which no weight removes
            for each in self.replicas:
                each.take_part()
            return
        share = amount / self._unit
        part = loss if share == 1.0 else loss * share
        if self.scaler is not None:
            part = self.scaler.scale(part)
        HUB.weighted(self._scale)
        part.backward()
        self._shares += share

    def step(self, limit: StepLimit, synced: bool, more: bool = False) -> Tensor | None:
        """Normalize, clip, step and clear; return the total norm before the clip, if it was
        measured.

        `synced`: the last backward has averaged the gradients over the processes. `more`: this
        process has further micro-batches.

        Raises:
            SeismogradError: nothing was backpropagated, in no process, or only with weight zero.
            NonFiniteGradientError: a gradient is not finite and that was to be raised.
        """
        shares, count, alive = self.total(self._shares, self.count, float(more))
        if not shares:
            raise SeismogradError(
                say("the window has no gradient to apply"),
                say("call backward() for its micro-batches first"),
            )
        if not synced:
            for each in self.replicas:
                each.reduce()
        self._normalise(shares, synced)
        # The next unit is one that every process knows.
        self._unit = None if self.size == 1 else (self._unit or 1.0) * shares / count
        self._shares, self.count, self.alive, self._scale = 0.0, 0, int(alive), TotalWeight()
        self._is_first = True  # where the limit raises, gradients are left over
        norm = self._apply(limit)
        self._is_first = False
        return norm

    def _normalise(self, shares: float, synced: bool) -> None:
        scaled_by = 1.0 if self.scaler is None else float(self.scaler.get_scale())
        self._scale.settle(shares / self.size * scaled_by)
        self._scale.loss_scale = scaled_by
        parameters = self._all_parameters()
        multiply_(
            [p.grad for p in parameters if p.grad is not None],
            (self.size if synced else 1.0) / shares,
        )
        HUB.normalised(parameters, None if self.scaler is None else Scalar(scaled_by))

    def _apply(self, limit: StepLimit) -> Tensor | None:
        if self.scaler is not None:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
        norm, skipped = limit.apply(
            ParameterList(tuple(self._stepped_parameters())), quiet=self.scaler is not None
        )
        self.num_skipped += skipped
        for optimizer in self.optimizers:
            if skipped:
                HUB.scaler_step_begins(optimizer)
                HUB.scaler_step_ends(SkippedStepScaler(), optimizer)
            elif self.scaler is not None:
                self.scaler.step(optimizer)
            else:
                optimizer.step()
        if self.scaler is not None:
            self.scaler.update()
        self._clear()
        return norm

    def _clear(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        stepped = {id(p) for p in self._stepped_parameters()}
        for parameter in self._all_parameters():
            if id(parameter) not in stepped:
                parameter.grad = None

    def _stepped_parameters(self) -> list[Tensor]:
        return list(
            chain.from_iterable(
                group["params"] for optimizer in self.optimizers for group in optimizer.param_groups
            )
        )

    def _all_parameters(self) -> list[Tensor]:
        """Return the parameters of the optimizers and of the models, each once."""
        held = chain(self._stepped_parameters(), *(model.parameters() for model in self.models))
        return list({id(p): p for p in held}.values())

    def _refuse_leftovers(self) -> None:
        self._is_first = False
        if any(
            p.grad is not None and bool(torch.any(held_part(p.grad)))
            for p in self._all_parameters()
        ):
            raise SeismogradError(
                say("there were already gradients before the first window"),
                say("clear them first: optimizer.zero_grad()"),
            )


def _amount(loss: Any, weight: Any) -> float:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise SeismogradError(
            say("backward() needs a loss with a single element"),
            say("pass a loss that is the mean over the micro-batch"),
        )
    amount = float(weight)
    if not math.isfinite(amount) or amount < 0:
        raise SeismogradError(
            say("the weight must be a finite number, not {weight}", weight=repr(amount)),
            say("pass the number of items that the loss averages over, such as targets.numel()"),
        )
    return amount
