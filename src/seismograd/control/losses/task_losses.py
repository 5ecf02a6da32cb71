"""Backpropagate several losses of one step together as usual, and on some steps also compare them
with each other.

Shapes: L losses, P parameters that any of them reaches.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from operator import add
from typing import Any, Protocol

import torch
from torch import Tensor

from seismograd.capture.graph.traversal import leaves_in_order
from seismograd.capture.hub import HUB
from seismograd.capture.probes.per_loss_gradients import FIRST, MAX_SCALARS
from seismograd.control.losses.loss_comparison import LossComparison, compare_losses
from seismograd.errors import SeismogradError
from seismograd.exception_origin import raised_by_user
from seismograd.i18n import say
from seismograd.schema import SAMPLE_EVERY
from seismograd.tensors.dtensor import distributed_tensor


class LossSession(Protocol):
    """The interface of the session that `watch` returns, as far as it is needed here."""

    @property
    def num_iterations(self) -> int:
        """Return how many iterations have made their step."""
        ...

    def failed(self, part: str, error: BaseException) -> None:
        """Count and report a failure of a part that works independently of the session."""
        ...


class TaskLosses:
    """The result of `losses`."""

    def __init__(self, session: LossSession | None, named: dict[str, Tensor]) -> None:
        self._session, self._named = session, named

    @property
    def total(self) -> Tensor:
        """Return their sum: the loss that `backward` backpropagates."""
        return reduce(add, self._named.values())

    def backward(self, *, scaler: Any = None, aggregator: Any = None) -> LossComparison | None:
        """Backpropagate the sum, as `(loss1 + loss2).backward()` does.

        Under a session the gradient of each loss is taken by itself as well at the first ten steps
        and every tenth after them, which costs a backward for each, and their norms and cosines are
        recorded.

        Args:
            scaler: a `torch.amp.GradScaler` to scale the sum with.
            aggregator: one of torchjd's, such as `torchjd.aggregation.UPGrad()`: it makes one
                gradient of the several in place of their sum. Needs `pip install torchjd`.

        Returns:
            The comparison where one was made.

        Raises:
            SeismogradError: torchjd is missing, or there is a scaler as well.
        """
        if aggregator is not None and scaler is not None:
            raise SeismogradError(
                say("backward() was given both a scaler and an aggregator"),
                say("scale the losses yourself instead"),
            )
        scale = float(scaler.get_scale()) if scaler is not None and scaler.is_enabled() else 1.0
        comparison = self._sampled(scale) if self._is_due() else None
        if aggregator is not None:
            _aggregate(list(self._named.values()), aggregator)
        else:
            (self.total if scaler is None else scaler.scale(self.total)).backward()
        if comparison is not None:  # now that the session is in the iteration of this backward
            HUB.compared(
                comparison.losses,
                comparison.tensors,
                comparison.products,
                comparison.reached,
            )
        return comparison

    def compare(self) -> LossComparison:
        """Take the gradient of each loss by itself; nothing is added to `.grad`, and the graph
        stays for `backward`.

        Raises:
            SeismogradError: no parameter is reached, or some are sharded: taking a gradient by
                itself would reduce it over the processes.
        """
        parameters = _reached_by(list(self._named.values()))
        if not parameters:
            raise SeismogradError(
                say("no parameter gets a gradient from the losses"),
                say("pass the losses as the model produces them, not detached"),
            )
        if any(distributed_tensor(p) is not None for p in parameters):
            raise SeismogradError(
                say("comparing losses is not supported for sharded parameters"),
                say("compare them in a single process"),
            )
        return compare_losses(self._named, parameters)

    def _is_due(self) -> bool:
        if self._session is None or not HUB.listening:
            return False
        number = self._session.num_iterations
        return number < FIRST or number % SAMPLE_EVERY == 0

    def _sampled(self, scale: float) -> LossComparison | None:
        """Return the comparison; `None` where it would be too large or fails: watching must not
        stop the training.
        """
        try:
            parameters = _reached_by(list(self._named.values()))
            if (
                not parameters
                or sum(p.numel() for p in parameters) > MAX_SCALARS
                or any(map(distributed_tensor, parameters))
            ):
                return None
            return compare_losses(self._named, parameters, scale)
        except Exception as error:
            if raised_by_user(error):
                raise
            if self._session is not None:
                self._session.failed("losses", error)
            return None


def losses(session: LossSession | None = None, /, **named: Tensor) -> TaskLosses:
    """Several losses of one step, each by its name.

        seismograd.losses(session, ctc=loss1, aux=loss2).backward()

    Args:
        session: what `watch` returned; it records how the losses compare. `None`: nothing is
            compared but by `compare_losses()`.
        named: the losses, one number each.

    Raises:
        SeismogradError: there are fewer than two, or one is not a single number with a graph.
    """
    if len(named) < 2:
        raise SeismogradError(
            say("comparing needs at least two losses"),
            say("pass two or more losses by name: losses(session, first=…, second=…)"),
        )
    for name, loss in named.items():
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SeismogradError(
                say("{name} is not a loss", name=name),
                say("pass a tensor with a single element that is computed from the model"),
            )
    return TaskLosses(session, named)


def _reached_by(values: Sequence[Tensor]) -> list[Tensor]:
    """Return the parameters that any of the losses reaches, in the order in which the forward pass
    uses them.
    """
    leaves = leaves_in_order([loss.grad_fn for loss in values])
    return [leaf.tensor for leaf in leaves if isinstance(leaf.tensor, torch.nn.Parameter)]


def _aggregate(values: list[Tensor], aggregator: Any) -> None:
    if importlib.util.find_spec("torchjd") is None:
        raise SeismogradError(
            say("an aggregator needs torchjd, which is not installed"),
            say("pip install torchjd"),
        )
    autojac: Any = import_module("torchjd.autojac")
    parameters = _reached_by(values)
    autojac.backward(values, inputs=parameters)
    autojac.jac_to_grad(parameters, aggregator)
