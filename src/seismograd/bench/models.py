"""The models that are trained while the cost is measured: three of our own, or the user's."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say

LEARNING_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, its optimizer, and a function that returns the loss of a batch. `size` is 1 for
    quick steps, less for long ones: how often to repeat.
    """

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[], Tensor]
    size: float = 1.0

    @property
    def num_tensors(self) -> int:
        """Return the number of parameters that are trained."""
        return sum(p.requires_grad for p in self.model.parameters())

    @property
    def num_scalars(self) -> int:
        """Return the number of scalars in them."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def mlp() -> Workload:
    """Return an MLP 784-256-10 on batches of 64: a step so short that the cost per step shows."""
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    inputs, labels = torch.randn(64, 784), torch.randint(0, 10, (64,))
    return _workload(
        "MLP 784-256-10", model, lambda: nn.functional.cross_entropy(model(inputs), labels)
    )


def many_small() -> Workload:
    """Return 500 layers of 64 × 64, 1,000 tensors: the cost per tensor shows."""
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(500)))
    inputs = torch.randn(8, 64)
    return _workload("500 × Linear(64)", model, lambda: model(inputs).square().mean(), 0.5)


class GptBlock(nn.Module):
    """A layer of GPT-2 (Radford and others, 2019)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer  # (B, T, C) -> (B, T, C)."""
        heads = (
            self.attention(self.norm_1(x))
            .unflatten(-1, (3, self.num_heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        attended = nn.functional.scaled_dot_product_attention(
            heads[0], heads[1], heads[2], is_causal=True
        )
        x = x + self.projection(attended.transpose(1, 2).flatten(2))
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm_2(x))))


class Gpt(nn.Module):
    """GPT-2 with fewer and narrower layers; input and output embeddings are shared."""

    def __init__(self, width: int, num_layers: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(GptBlock(width, width // 64) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores of the next tokens  # (B, T) -> (B, T, vocabulary)."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def gpt() -> Workload:
    """Return a GPT of 17.4 million scalars in 100 tensors, on batches of 4 × 128 tokens: the cost
    of reading gradients shows.
    """
    model = Gpt(width=384, num_layers=8, vocabulary=8192, context=256)
    tokens = torch.randint(0, 8192, (4, 129))
    return _workload(
        "GPT",
        model,
        lambda: nn.functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        ),
        size=0.25,
    )


def _workload(
    name: str, model: nn.Module, loss: Callable[[], Tensor], size: float = 1.0
) -> Workload:
    return Workload(
        name, model, torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE), loss, size
    )


MODELS = {"mlp": mlp, "many": many_small, "gpt": gpt}


def user_model(target: str) -> Workload:
    """Return the user's model: `module:function`, whose function returns `(model, loss)` or
    `(model, loss, optimizer)`.

    `loss()` returns the loss of a new batch, ready for `backward`; without an optimizer AdamW
    trains all parameters.

    Raises:
        SeismogradError: the module cannot be imported, the function cannot be called, or it returns
            something else.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise SeismogradError(
            say("{target} is not of the form module:function", target=repr(target)),
            say("for example my_package.models:small"),
        )
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  # as `python -m` has it
    try:
        function: object = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        problem = say("{target} cannot be imported: {error}", target=target, error=_one_line(error))
        raise SeismogradError(problem, say("for example my_package.models:small")) from error
    finally:
        sys.path.pop(0)
    made = _called(target, function) if callable(function) else None
    parts: tuple[Any, ...] = cast("tuple[Any, ...]", made) if isinstance(made, tuple) else ()
    if len(parts) not in (2, 3) or not isinstance(parts[0], nn.Module) or not callable(parts[1]):
        raise _refused(target)
    model, loss = parts[0], cast("Callable[[], Any]", parts[1])
    first: object = _called(target, loss)
    if not isinstance(first, Tensor) or first.numel() != 1 or not first.requires_grad:
        raise _refused(target)
    if len(parts) == 3 and not isinstance(parts[2], torch.optim.Optimizer):
        raise _refused(target)
    return (
        _workload(target, model, loss)
        if len(parts) == 2
        else Workload(target, model, parts[2], loss)
    )


def _called(target: str, function: Callable[[], object]) -> object:
    try:
        return function()
    except Exception as error:
        raise SeismogradError(
            say("calling {target} failed: {error}", target=target, error=_one_line(error)), _fix()
        ) from error


def _refused(target: str) -> SeismogradError:
    return SeismogradError(
        say("the return value of {target} is not what the benchmark needs", target=target), _fix()
    )


def _fix() -> Message:
    return say("return (model, loss), where loss() computes the loss of one batch")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
