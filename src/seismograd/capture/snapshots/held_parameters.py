"""The parameters of one optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class HeldParameters:
    """The parameters of one optimizer by name; `scale`: what their gradients are still multiplied
    by.
    """

    optimizer: int
    name: str
    parameters: Mapping[str, Tensor]
    scale: float
