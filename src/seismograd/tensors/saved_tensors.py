"""Read what the operations of a graph saved for the backward pass, without calling a hook of the
program that packed it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# A saved tensor shows its data, and none where a hook has packed it away; that of torch 2.6 is only
# to be had unpacked, and nothing tells whether a hook would do that.
SHOWS_DATA = hasattr(torch._C._autograd.SavedTensor, "data")  # pyright: ignore


@dataclass(slots=True)
class PackingHooks:
    """Whether the program has been seen to save tensors through hooks, as checkpointing and
    offloading do; noted only where a saved tensor does not tell (`SHOWS_DATA`).
    """

    seen: bool = False


PACKING_HOOKS = PackingHooks()


def saved_tensor(node: Any, name: str) -> torch.Tensor | None:
    """Return the tensor that a node saved under this name, as it is; `None` where there is none,
    where a hook has packed it away or may have, and where the backward pass has freed it. Its
    memory may be freed.
    """
    if SHOWS_DATA:
        data = getattr(getattr(node, f"_raw_saved_{name}", None), "data", None)
    elif PACKING_HOOKS.seen or not hasattr(node, f"_raw_saved_{name}"):
        return None
    else:
        try:
            data = getattr(node, f"_saved_{name}")
        except RuntimeError:  # freed, or changed in place since
            return None
        if isinstance(data, torch.Tensor) and data.requires_grad:
            data = data.detach()  # whoever keeps it does not keep the graph
    return data if isinstance(data, torch.Tensor) else None


def saved_list(node: Any, name: str) -> list[torch.Tensor | None]:
    """Return the tensors of a list that a node saved under this name, `None` where `saved_tensor`
    would return that; nothing where the backward pass has freed them.
    """
    if not SHOWS_DATA and PACKING_HOOKS.seen:
        return []
    kept: Any
    try:
        if SHOWS_DATA:
            kept = [getattr(each, "data", None) for each in getattr(node, f"_raw_saved_{name}")]
        else:
            kept = getattr(node, f"_saved_{name}")
    except RuntimeError:  # freed, or changed in place since
        return []
    return [each.detach() if isinstance(each, torch.Tensor) else None for each in kept]
