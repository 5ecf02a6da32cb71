"""Who holds the tensors of columns: which optimizer, and which model."""

from __future__ import annotations

from collections.abc import Sequence, Set

import torch

from seismograd.capture.names.column_entry import ColumnEntry


def release(entries: Sequence[ColumnEntry], held: Set[int], living: Set[int]) -> None:
    """Take parameters from an optimizer that is gone where another one trains the same model: what
    that one does not hold is nobody's.

    `held`: the ids of what the optimizers with the indices `living` hold.
    """
    trained = {
        entry.model
        for entry in entries
        if (tensor := entry.tensor()) is not None and id(tensor) in held
    }
    for entry in entries:
        if entry.optimizer not in living and entry.model in trained:
            entry.optimizer, entry.group = None, None


def let_go(entries: Sequence[ColumnEntry], model: int, ids: Set[int], held: Set[int]) -> None:
    """Note which registered parameters that optimizers hold are no more among those of their model,
    which have these ids. `held`: the ids of what they hold. Others that are still alive, as in a
    graph that was made by the model before, leave their columns to those that replace them.
    """
    for entry in entries:
        if entry.model == model and entry.registered and entry.optimizer is not None:
            tensor = entry.tensor()
            if tensor is not None and id(tensor) not in ids and id(tensor) in held:
                entry.model = -1


def unowned(entries: Sequence[ColumnEntry], models: Set[int]) -> list[tuple[torch.Tensor, int]]:
    """Return the trainable parameters that no optimizer holds, with their columns: of these models,
    and of models of which no optimizer holds any.
    """
    found: list[tuple[torch.Tensor, int]] = []
    trained = {entry.model for entry in entries if entry.optimizer is not None}
    for column, entry in enumerate(entries):
        if entry.optimizer is None and (
            entry.model in models or entry.model not in trained or entry.model == -1
        ):
            tensor = entry.tensor()
            if tensor is not None and tensor.requires_grad:
                found.append((tensor, column))
    return found
