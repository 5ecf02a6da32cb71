"""Parameters that only the graph of a loss has shown: which they are, and what they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from seismograd.capture.graph.traversal import GraphLeaf
from seismograd.capture.names.gathered_parameters import flattened_in, originals
from seismograd.capture.names.parameter_names import NamedParameter, behind_attributes, hidden

Models = Sequence[tuple[int, torch.nn.Module, str]]  # numbers and prefixes


def strangers_among(
    leaves: Iterable[GraphLeaf],
    is_known: Callable[[torch.Tensor], bool],
    models: Iterable[torch.nn.Module],
) -> list[torch.Tensor]:
    """Return those of these leaves that are parameters and not known, the sharded ones of these
    models for gathered ones.
    """
    strange = [
        each.tensor
        for each in leaves
        if isinstance(each.tensor, torch.nn.Parameter) and not is_known(each.tensor)
    ]
    if not strange:
        return []
    sharded = originals(each for model in models for each in model.modules())
    parameters = [
        sharded.get(id(tensor), tensor)
        for tensor in strange
        if not any(map(is_known, flattened_in(tensor)))
    ]
    return [tensor for tensor in parameters if not is_known(tensor)]


def unregistered_in(
    models: Models, wanted: dict[int, torch.Tensor]
) -> Iterator[tuple[int, NamedParameter]]:
    """Yield those of these tensors, by their ids, that models hold without registering them: in
    lists and attributes of their own, and then in objects behind these; with the number of the
    model. They are taken out of `wanted`.
    """
    for number, module, prefix in models:
        for name, tensor, kind in hidden(module, prefix):
            if wanted.pop(id(tensor), None) is not None:
                yield number, NamedParameter(tensor, name, kind)
    for number, module, prefix in models if wanted else ():
        for name, tensor in behind_attributes(module, prefix):
            if wanted.pop(id(tensor), None) is not None:
                yield number, NamedParameter(tensor, name, "")
