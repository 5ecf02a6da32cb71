"""A column of the record in the making: what is known of a parameter so far."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

import torch

from seismograd.schema import Parameter
from seismograd.tensors.tensor_part import whole_shape


@dataclass(slots=True)
class ColumnEntry:
    """A column in the making. `tensor` is referred to weakly: watching must not keep a model
    alive.
    """

    name: str
    tensor: weakref.ref[torch.Tensor]
    module: str
    aliases: tuple[str, ...]
    model: int  # which of the models holds it, -1 for none
    depth: int | None = None
    optimizer: int | None = None
    group: int | None = None
    activation: str = ""
    compute_dtype: str = ""
    registered: bool = True
    frozen_in_name: bool = False
    branch: int = 0
    walks: int = 0  # bit i: the walk with number i has shown it
    beside: frozenset[int] = frozenset()  # columns on a parallel path

    def described(self, before: Parameter | None, model: str) -> Parameter:
        """Return the column as it is now, or as it last was when the tensor is gone; `model` is the
        name of its model.
        """
        tensor = self.tensor()
        if tensor is None and before is not None:
            return before
        shape = whole_shape(tensor) if tensor is not None else ()
        return Parameter(
            name=self.name,
            shape=shape,
            dtype=str(tensor.dtype).removeprefix("torch.") if tensor is not None else "",
            numel=math.prod(shape) if tensor is not None else 0,
            module=self.module,
            aliases=self.aliases,
            depth=self.depth,
            trainable=bool(tensor.requires_grad) if tensor is not None else False,
            optimizer=self.optimizer,
            group=self.group,
            activation=self.activation,
            compute_dtype=self.compute_dtype,
            registered=self.registered,
            frozen_in_name=self.frozen_in_name,
            branch=self.branch,
            root=self.model,
            model=model,
        )
