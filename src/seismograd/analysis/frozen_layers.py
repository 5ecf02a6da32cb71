"""Find frozen layers where layers usually train: behind trained ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from seismograd.schema import Parameter

# beginnings or ends of class names
LAYERS = ("Linear", "Bilinear", "Conv", "LSTM", "GRU", "RNN", "MultiheadAttention")


@dataclass(frozen=True, slots=True)
class Layer:
    """A module with weights of two or more dimensions; frozen when none of its parameters
    trains.
    """

    path: str
    parameters: tuple[Parameter, ...]
    is_frozen: bool
    numel: int


def misplaced(
    parameters: Sequence[Parameter],
    got_some: Collection[str],
    max_share: float,
    max_tail_share: float,
) -> tuple[list[Layer], Layer | None]:
    """Return the frozen layers behind trained ones, where that is unusual, and the trained layer
    before the first of them. `got_some`: the names of those that had gradients.
    """
    layers = _layers(parameters, got_some)
    trained = [position for position, layer in enumerate(layers) if not layer.is_frozen]
    if not trained:
        return [], None
    originals = [parameter for position in trained for parameter in layers[position].parameters]
    between: list[Layer] = []
    tail: list[Layer] = []
    for position, layer in enumerate(layers):
        if (
            not layer.is_frozen
            or position < trained[0]
            or all(any(_is_copy(p, other) for other in originals) for p in layer.parameters)
        ):
            continue
        if any(_is_sibling(layer, layers[other]) for other in trained):
            between.append(layer)
        elif position > trained[-1]:
            tail.append(layer)
    total = sum(layer.numel for layer in layers)
    if sum(layers[position].numel for position in trained) < max_tail_share * total:
        return [], None
    few = sum(layer.numel for layer in between) <= max_share * total
    short = sum(layer.numel for layer in tail) <= max_tail_share * total
    found = [*(between if few else ()), *(tail if short else ())]
    before = layers[: layers.index(found[0])] if found else []
    return found, next((layer for layer in reversed(before) if not layer.is_frozen), None)


def holder(
    parameters: Sequence[Parameter],
    frozen: Collection[str],
    got_some: Collection[str],
    share: float,
) -> int | None:
    """Return the optimizer that holds these frozen parameters, where what trains is no more than
    this share of what it holds; `None` where one of them is not frozen, or none is held.
    """
    meant = [each for each in parameters if each.name in frozen]
    if not meant or any(each.trainable or each.name in got_some for each in meant):
        return None
    index = next((each.optimizer for each in meant if each.optimizer is not None), None)
    held = [each for each in parameters if index is not None and each.optimizer == index]
    trained = sum(each.numel for each in held if each.trainable)
    return index if held and trained <= share * sum(each.numel for each in held) else None


def _layers(parameters: Sequence[Parameter], got_some: Collection[str]) -> list[Layer]:
    """Return those of the usual kinds, in the order of registration."""
    by_path: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        if parameter.module.startswith(LAYERS) or parameter.module.endswith(LAYERS):
            by_path.setdefault(parameter.name.rpartition(".")[0], []).append(parameter)
    return [
        Layer(
            path,
            tuple(held),
            not any(each.trainable or each.name in got_some for each in held),
            sum(each.numel for each in held),
        )
        for path, held in by_path.items()
        if any(len(each.shape) >= 2 for each in held)
    ]


def _is_copy(one: Parameter, other: Parameter) -> bool:
    """Return whether both are the same part of two networks: `target.0.weight` and
    `online.0.weight`.
    """
    root, _, rest = one.name.partition(".")
    other_root, _, other_rest = other.name.partition(".")
    return (
        rest == other_rest
        and one.shape == other.shape
        and root != other_root
        and not root.isdigit()
    )


def _is_sibling(one: Layer, other: Layer) -> bool:
    """Return whether both are numbered children of one parent."""
    parent, _, number = one.path.rpartition(".")
    other_parent, _, other_number = other.path.rpartition(".")
    return (
        parent == other_parent
        and number.isdigit()
        and other_number.isdigit()
        and int(other_number) < int(number)
    )
