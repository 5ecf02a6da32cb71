"""Accumulate gradients to that of one big batch, however the micro-batches are cut."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence, Sized
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from seismograd.control.accumulate.accumulation_window import AccumulationWindow, LookaheadIterator
from seismograd.control.accumulate.gradient_accumulator import GradientAccumulator
from seismograd.control.accumulate.replicas import replicas_of
from seismograd.control.clip.nonfinite_policy import Policy
from seismograd.control.clip.step_limit import ClipArgument, StepLimit
from seismograd.errors import SeismogradError
from seismograd.i18n import say

T = TypeVar("T")


class Accumulation(Generic[T]):
    """What `accumulate` gives: windows to iterate over or, without a loader, one window after
    another as an object.

    with seismograd.accumulate(model=model, optimizer=optimizer) as window:
        window.backward(loss, weight=len(targets))     # as often as you like
        window.step(max_norm=1.0)                      # whenever you like
    """

    def __init__(
        self, loader: Iterable[T] | None, num: int, accumulator: GradientAccumulator
    ) -> None:
        self._loader, self._num, self._accumulator = loader, num, accumulator
        if loader is None:
            accumulator.prepare(accumulator.reduces_each)
            if not accumulator.reduces_each:
                accumulator.part()

    @property
    def num_skipped(self) -> int:
        """Return how many steps were skipped because a gradient was not finite."""
        return self._accumulator.num_skipped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the model as it was found: with DistributedDataParallel, its backwards reduce
        again.
        """
        self._accumulator.restore()

    def __iter__(self) -> Generator[AccumulationWindow[T]]:
        """The windows of one pass over the loader.

        Raises:
            SeismogradError: a window was not stepped, there is no loader, or processes that must
                keep in step cannot.
        """
        if self._loader is None:
            raise SeismogradError(
                say("accumulate() was given no loader to iterate over"),
                say("pass a loader: accumulate(loader, 4, …)"),
            )
        accumulator = self._accumulator
        source = LookaheadIterator(self._loader)
        try:
            self._agree(source)
            while accumulator.alive:
                if accumulator.alive < accumulator.size:
                    accumulator.part()
                window = AccumulationWindow(accumulator, source, self._num)
                accumulator.prepare(False)
                yield window
                if not window.stepped:
                    raise SeismogradError(
                        say("window.step() was not called"),
                        say("call window.step() after the window's micro-batches"),
                    )
        finally:
            accumulator.restore()

    def backward(self, loss: Tensor, weight: float = 1.0) -> None:
        """Backpropagate a loss that counts `weight`; see `AccumulationWindow.backward`.

        Raises:
            SeismogradError: there is a loader, whose windows have a `backward` of their own.
        """
        self._refuse_with_loader()
        self._accumulator.add(loss, weight)

    def step(
        self,
        max_norm: float | None = None,
        *,
        norm_type: float = 2.0,
        clip: ClipArgument | None = None,
        nonfinite: Policy = "torch",
    ) -> Tensor | None:
        """Divide by the total weight since the last step, clip, step and clear; see
        `AccumulationWindow.step`.

        Raises:
            SeismogradError: nothing was backpropagated, or there is a loader.
            NonFiniteGradientError: a gradient is not finite and `nonfinite` is `"raise"`.
        """
        self._refuse_with_loader()
        limit = StepLimit(max_norm, norm_type, clip, nonfinite)
        limit.check()
        return self._accumulator.step(
            limit, synced=self._accumulator.size == 1 or self._accumulator.reduces_each
        )

    def _agree(self, source: LookaheadIterator[T]) -> None:
        """Return which processes have anything, and whether they have the same amount."""
        length = len(self._loader) if isinstance(self._loader, Sized) else 0
        alive, total, squares = self._accumulator.total(
            float(bool(source)), float(length), float(length) ** 2
        )
        self._accumulator.alive = int(alive)
        if self._accumulator.always_together and squares * self._accumulator.size != total**2:
            self._refuse()

    def _refuse(self) -> None:
        raise SeismogradError(
            say(
                "the processes have different numbers of micro-batches, but FSDP2 needs every "
                "process in each forward pass"
            ),
            say(
                "give every process the same number, or use accumulate(…, keep_unsharded=True) if "
                "only the last window differs"
            ),
        )

    def _refuse_with_loader(self) -> None:
        if self._loader is not None:
            raise SeismogradError(
                say("with a loader, call backward() and step() on each window"),
                say("for window in accumulate(…): …; window.backward(loss); window.step()"),
            )


def accumulate(
    loader: Iterable[T] | None = None,
    num: int = 1,
    *,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    model: torch.nn.Module | Sequence[torch.nn.Module] | None = None,
    scaler: Any = None,
    keep_unsharded: bool = False,
) -> Accumulation[T]:
    """Gradients of several micro-batches in one step, equal to rounding to those of one batch that
    holds them all.

        for window in seismograd.accumulate(loader, 4, model=model, optimizer=optimizer):
            for inputs, targets in window:
                loss = criterion(model(inputs), targets)       # a mean over this micro-batch
                window.backward(loss, weight=targets.numel())  # what the mean is over
            window.step(max_norm=1.0)                          # divide, clip, step, zero_grad

    Weights are added up and divided by once, at the step: uneven micro-batches and a short last
    window need nothing else. Under DistributedDataParallel and fully_shard gradients are reduced
    once per window, and the total weight is that of all processes, so that they need not have the
    same number of micro-batches.

    Args:
        loader: what the micro-batches come from, gone through anew by each iteration; `None` for a
            loop of another shape, which calls `backward` and `step` of the result itself.
        num: how many micro-batches make a window. The last one may have fewer.
        optimizer: the optimizer, or several; all of them step.
        model: the model, or several. Needed where other processes train it too.
        scaler: a `torch.amp.GradScaler`; it scales, unscales, steps and is updated once per window.
        keep_unsharded: fully_shard only: gather the weights once per window, not in every pass. It
            takes the memory of all of them, and lets the processes have different numbers of
            micro-batches in a window.

    Raises:
        SeismogradError: `num` is not a whole number of at least 1, the model is wrapped in
            something that is not known, or an optimizer needs a closure.
    """
    if not isinstance(num, int) or num < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SeismogradError(
            say("a window cannot have {num} micro-batches", num=repr(num)),
            say("use an integer of at least 1"),
        )
    models = [] if model is None else [model] if isinstance(model, torch.nn.Module) else list(model)
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer)
    if any(isinstance(each, torch.optim.LBFGS) for each in optimizers):
        raise SeismogradError(
            say("LBFGS evaluates the loss several times per step, through a closure"),
            say("use an optimizer that does not need a closure"),
        )
    found = [each for one in models or [None] for each in replicas_of(one, keep_unsharded)]
    found.sort(key=lambda each: -each.size)  # a model of several processes decides for all
    return Accumulation(loader, num, GradientAccumulator(models, optimizers, scaler, found))
