"""Find the parameters that `fully_shard` (FSDP2) registers in place of the sharded ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

# of torch's object for each parameter: what is registered in the module instead of the shard
STAND_INS = ("_unsharded_param", "_sharded_post_forward_param")


def originals(modules: Iterable[torch.nn.Module]) -> dict[int, torch.Tensor]:
    """Return the id of each gathered parameter of these modules, and the sharded parameter that it
    stands for.

    From the forward pass to the end of the backward the outermost sharded module holds the gathered
    parameters, and so does the graph of the loss; optimizers hold the sharded ones. Empty where
    torch keeps this in another way than expected.
    """
    found: dict[int, torch.Tensor] = {}
    for module in modules:
        sharded = next((c for c in type(module).__mro__ if c.__qualname__ == "FSDPModule"), None)
        state: Any = None if sharded is None else _state(sharded, module)
        groups: Any = getattr(state, "_fsdp_param_groups", None)
        if groups is None:  # older versions of torch have one at most
            groups = [getattr(state, "_fsdp_param_group", None)]
        for group in groups:
            for each in getattr(group, "fsdp_params", ()):
                original: torch.Tensor | None = getattr(each, "sharded_param", None)
                for name in STAND_INS:
                    stand_in = getattr(each, name, None)
                    if stand_in is not None and original is not None:
                        found[id(stand_in)] = original
    return found


def _state(sharded: Any, module: torch.nn.Module) -> Any:
    try:
        return sharded._get_fsdp_state(module)
    except (AttributeError, AssertionError):  # another class of that name, or a copy without state
        return None


def flattened_in(tensor: torch.Tensor) -> Iterable[torch.Tensor]:
    """Return the parameters that FullyShardedDataParallel has flattened into this one, which is in
    the graph in their place when the optimizer holds them (`use_orig_params=True`).
    """
    attributes = vars(tensor)
    return attributes.get("_params") or () if attributes.get("_is_flat_param") is True else ()
