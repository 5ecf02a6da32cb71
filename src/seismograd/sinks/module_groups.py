"""Which parameters are sent to trackers as one: modules, so many that a dashboard can hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seismograd.schema import IntArray, Parameter

MOST_GROUPS = 32
OTHERS = "(others)"


def module_groups(parameters: Sequence[Parameter]) -> dict[str, IntArray]:
    """Return the columns of each module, by its name. Modules are as deep as there are no more than
    `MOST_GROUPS`; where even the outermost are more, the last of them are one.
    """
    paths = [each.name.split(".")[:-1] or [each.name] for each in parameters]
    deepest = max((len(path) for path in paths), default=1)
    names = [path[0] for path in paths]
    for depth in range(1, deepest + 1):
        deeper = [".".join(path[:depth]) for path in paths]
        if len(set(deeper)) > MOST_GROUPS:
            break
        names = deeper
    kept = list(dict.fromkeys(names))
    if len(kept) > MOST_GROUPS:
        few = set(kept[: MOST_GROUPS - 1])
        names = [name if name in few else OTHERS for name in names]
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        columns.setdefault(name, []).append(column)
    return {name: np.array(found) for name, found in columns.items()}
