"""The arguments of the functions here: parameters, with or without names, and their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.names import discovery
from seismograd.capture.names.parameter_names import named
from seismograd.tensors.dtensor import distributed_tensor

Parameters = Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]

SMALLEST_FACTOR = 2.0**-100  # of what one multiplication in float32 keeps all digits of


@dataclass(frozen=True, slots=True)
class ParameterList:
    """Parameters and, where they were given as (name, parameter), their names."""

    tensors: tuple[Tensor, ...]
    given: tuple[str, ...] = ()

    def with_gradient(self) -> ParameterList:
        """Return those that have a gradient."""
        there = [
            position for position, tensor in enumerate(self.tensors) if tensor.grad is not None
        ]
        return ParameterList(
            tuple(self.tensors[i] for i in there),
            tuple(self.given[i] for i in there) if self.given else (),
        )

    def gradients(self) -> list[Tensor]:
        """Return the gradients of those that have one."""
        return [tensor.grad for tensor in self.tensors if tensor.grad is not None]

    def names(self) -> tuple[str, ...]:
        """Return the names as given, else those in the script's own modules, else their
        positions.
        """
        if self.given:
            return self.given
        known = _names_in_the_script(everywhere=False)
        if any(id(tensor) not in known for tensor in self.tensors):
            known = _names_in_the_script(everywhere=True)
        return tuple(
            known.get(id(tensor), f"parameter {position}")
            for position, tensor in enumerate(self.tensors)
        )


def parameter_list(parameters: Parameters) -> ParameterList:
    """Return the parameters from what torch's clipping functions accept: one, an iterable of them,
    or of (name, parameter) pairs.
    """
    if isinstance(parameters, Tensor):
        return ParameterList((parameters,))
    listed: list[Any] = list(parameters)
    if listed and all(isinstance(each, tuple) for each in listed):
        return ParameterList(
            tuple(tensor for _, tensor in listed), tuple(str(name) for name, _ in listed)
        )
    return ParameterList(tuple(listed))


def _names_in_the_script(everywhere: bool) -> dict[int, str]:
    found = discovery.discover_objects(everywhere)
    modules = discovery.roots(found.modules)
    return {
        **found.names,
        **{id(each.tensor): each.name for module in reversed(modules) for each in named(module)},
    }


@torch.no_grad()
def multiply_(gradients: Sequence[Tensor], factor: float) -> None:
    """Multiply gradients of any dtype and device in place; not at all by 1."""
    if factor == 1.0 or not gradients:
        return
    # float32, in which torch multiplies narrow dtypes, has lost digits there
    if 0 < abs(factor) < SMALLEST_FACTOR:
        multiply_(gradients, factor / SMALLEST_FACTOR)
        factor = SMALLEST_FACTOR
    plain = [gradient for gradient in gradients if distributed_tensor(gradient) is None]
    for together in (
        plain,
        [gradient for gradient in gradients if distributed_tensor(gradient) is not None],
    ):
        if together:
            # What torch's own clip and optimizers call: one kernel for many tensors.
            torch._foreach_mul_(together, factor)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
