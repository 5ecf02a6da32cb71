"""Which parameter of one run is which of another: as `views/page/modules/pairs.js` decides it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.schema import Parameter


@dataclass(frozen=True, slots=True)
class ParameterPairs:
    """The columns that belong together, in the order of the first run. `by_order`: few names are
    common, so they go by order and shape.
    """

    columns: tuple[tuple[int, int], ...]
    by_order: bool


def pair_up(first: Sequence[Parameter], second: Sequence[Parameter]) -> ParameterPairs:
    """Return pairs of the same name and shape where most weights of the smaller run have a partner;
    else the first of each shape and kind of module with the first, the second with the second, in
    the order of execution. Parameters of one name and several shapes stay apart.
    """
    places = {each.name: column for column, each in enumerate(second)}
    named = [
        (column, places[each.name])
        for column, each in enumerate(first)
        if each.name in places and second[places[each.name]].shape == each.shape
    ]
    # what is numbered has partners by chance, above all biases
    only_matrices = any(map(_is_matrix, first)) and any(map(_is_matrix, second))
    fewest = min(
        sum(not only_matrices or _is_matrix(each) for each in side) for side in (first, second)
    )
    num = sum(not only_matrices or _is_matrix(first[column]) for column, _ in named)
    if num * 2 >= fewest:
        return ParameterPairs(tuple(named), False)
    waiting: defaultdict[object, deque[int]] = defaultdict(deque)
    for column in _in_order(second):
        waiting[_role(second[column])].append(column)
    paired = [
        (column, waiting[role].popleft())
        for column in _in_order(first)
        if waiting[role := _role(first[column])]
    ]
    return ParameterPairs(tuple(sorted(paired)), True)


def _is_matrix(parameter: Parameter) -> bool:
    return sum(size > 1 for size in parameter.shape) >= 2


def _role(parameter: Parameter) -> object:
    """Return what two parameters share that stand at the same place of two networks."""
    return parameter.shape, parameter.module, parameter.name.rpartition(".")[2]


def _in_order(parameters: Sequence[Parameter]) -> list[int]:
    def depth(column: int) -> float:
        known = parameters[column].depth
        return float("inf") if known is None else known

    return sorted(range(len(parameters)), key=depth)
