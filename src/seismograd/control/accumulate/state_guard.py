"""Run a model without side effects, and prepare the batches it is run on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from seismograd.errors import SeismogradError
from seismograd.i18n import say

LossFunction = Callable[[Any, Any], Tensor]
"""Takes the model and a batch; gives a loss of one number, a mean over what the batch holds."""


@contextmanager
def preserved_state(model: nn.Module) -> Generator[None]:
    """Clear `.grad` inside the context; restore gradients, buffers, training modes and random
    numbers after it.
    """
    parameters = list(model.parameters())
    gradients = [p.grad for p in parameters]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    for parameter in parameters:
        parameter.grad = None
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, training in modes:
            module.training = training


def num_samples(batch: Any) -> int:
    """Return how many samples a batch of tensors holds: tensors, in tuples, lists and dictionaries,
    with samples along the first dimension.

    Raises:
        SeismogradError: it holds no tensor, or tensors of different lengths.
    """
    lengths = {len(tensor) for tensor in _tensors(batch)}
    if len(lengths) != 1:
        raise SeismogradError(
            say("cannot determine the number of samples in the batch"),
            say("pass tensors (in tuples, lists or dicts) whose first dimension is the samples"),
        )
    return lengths.pop()


def take_samples(batch: Any, index: Tensor) -> Any:
    """Return these samples of a batch."""
    if isinstance(batch, Tensor):
        return batch[index.to(batch.device)] if batch.dim() else batch
    if isinstance(batch, dict):
        return {
            key: take_samples(each, index) for key, each in cast("dict[Any, Any]", batch).items()
        }
    if isinstance(batch, tuple | list):
        parts = [take_samples(each, index) for each in cast("list[Any]", batch)]
        return tuple(parts) if isinstance(batch, tuple) else parts
    return batch


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch] if batch.dim() else []
    inside: list[Any] = (
        list(cast("dict[Any, Any]", batch).values()) if isinstance(batch, dict) else []
    )
    if isinstance(batch, tuple | list):
        inside = list(cast("list[Any]", batch))
    return [tensor for each in inside for tensor in _tensors(each)]
