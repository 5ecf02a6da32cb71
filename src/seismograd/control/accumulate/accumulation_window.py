"""One window of an accumulation: its micro-batches, each with a backward, then one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from torch import Tensor

from seismograd.control.accumulate.gradient_accumulator import GradientAccumulator
from seismograd.control.clip.nonfinite_policy import NonFiniteGradientError, Policy
from seismograd.control.clip.step_limit import ClipArgument, StepLimit
from seismograd.errors import SeismogradError
from seismograd.i18n import say

T = TypeVar("T")


class LookaheadIterator(Generic[T]):
    """An iterator that knows whether anything is left in it."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._next = list[T]()
        self._look()

    def __bool__(self) -> bool:
        return bool(self._next)

    def take(self) -> T:
        """Return the next item."""
        item = self._next.pop()
        self._look()
        return item

    def _look(self) -> None:
        self._next.extend(islice(self._items, 1))


class AccumulationWindow(Generic[T]):
    """Up to `num` micro-batches whose gradients make one step. Iterate over it, call `backward`
    once for each, then `step`.
    """

    def __init__(
        self, accumulator: GradientAccumulator, source: LookaheadIterator[T], num: int
    ) -> None:
        self._accumulator, self._source, self._num = accumulator, source, num
        self._together = accumulator.alive == accumulator.size  # every process has a micro-batch
        self._waiting = False  # a micro-batch was handed out and has had no backward
        self._last = False  # it is the last one
        self._synced = False
        self.stepped = False

    def __iter__(self) -> Iterator[T]:
        """Iterate over the micro-batches.

        Raises:
            SeismogradError: one had no backward, and other processes are waiting for it.
        """
        for number in range(self._num):
            if self._waiting and self._accumulator.size > 1:
                raise SeismogradError(
                    say(
                        "backward was never called for one of the micro-batches, and the other "
                        "processes are waiting for it"
                    ),
                    say("to leave a micro-batch out, call window.backward(loss, weight=0) for it"),
                )
            if not self._source or self.stepped:
                return
            item = self._source.take()
            self._last = number == self._num - 1 or not self._source
            self._waiting = True
            self._accumulator.prepare(self._last and self._together)
            yield item

    def backward(self, loss: Tensor, weight: float = 1.0) -> None:
        """Backpropagate the loss of the micro-batch in hand: a mean over what it holds.

        Args:
            loss: one number.
            weight: how much it counts: how many samples, tokens or the like it is a mean over.
                Zero: not at all, even if it is NaN.

        Raises:
            SeismogradError: there is no micro-batch in hand, or it has had its backward.
        """
        if not self._waiting:
            raise SeismogradError(
                say("backward() was called while no micro-batch was being processed"),
                say(
                    "call it once for each micro-batch of the window, before the window's step(); "
                    "if there are several losses, add them up first"
                ),
            )
        self._waiting = False
        self._accumulator.add(loss, weight, together=self._together)
        self._synced |= self._last and self._together

    def step(
        self,
        max_norm: float | None = None,
        *,
        norm_type: float = 2.0,
        clip: ClipArgument | None = None,
        nonfinite: Policy = "torch",
    ) -> Tensor | None:
        """Divide by the total weight, clip, step and clear the gradients.

        Args:
            max_norm: clip to this total norm, as `clip_grad_norm_` does.
            norm_type: the order of that norm.
            clip: in its place a function of the list of parameters, such as a `seismograd.ZClip`.
            nonfinite: as for `clip_grad_norm_`; a step that is skipped is counted in `num_skipped`.
                With a GradScaler, which leaves such steps out by itself, nothing is said or raised.

        Returns:
            The total norm before the clip; `None` when none was measured.

        Raises:
            SeismogradError: nothing was backpropagated, or the window has been stepped already.
            NonFiniteGradientError: a gradient is not finite and `nonfinite` is `"raise"`.
        """
        if self.stepped:
            raise SeismogradError(
                say("window.step() was called twice"),
                say("call window.step() once, after all micro-batches of the window"),
            )
        if self._accumulator.size > 1 and self._together and not self._synced:
            raise SeismogradError(
                say(
                    "the window has micro-batches left, and the other processes are waiting for "
                    "them"
                ),
                say("iterate over the whole window before you call window.step()"),
            )
        limit = StepLimit(max_norm, norm_type, clip, nonfinite)
        limit.check()
        try:
            norm = self._accumulator.step(
                limit, synced=self._synced or self._accumulator.size == 1, more=bool(self._source)
            )
        except NonFiniteGradientError:
            self.stepped = True  # a caller that catches it and clears the gradients may go on
            raise
        self.stepped = True
        return norm
