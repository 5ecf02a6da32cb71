"""DeepSpeed's optimizers, which are none of torch's: each has one inside, over flat partitions or
copies of its own, and updates the parameters of the model itself.

DeepSpeed is never imported here. There can only be one of its optimizers where the program has.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from typing import Any, cast

import torch

MODULES = {
    "deepspeed.runtime.zero.stage_1_and_2": "DeepSpeedZeroOptimizer",
    "deepspeed.runtime.zero.stage3": "DeepSpeedZeroOptimizer_Stage3",
    "deepspeed.runtime.bf16_optimizer": "BF16_Optimizer",
    "deepspeed.runtime.fp16.fused_optimizer": "FP16_Optimizer",
    "deepspeed.runtime.fp16.unfused_optimizer": "FP16_UnfusedOptimizer",
}


# Stages 1 and 2 step one group after the other, each as if there were no other one: the groups as
# they were before.
_WHOLE: weakref.WeakKeyDictionary[Any, list[Mapping[str, Any]]] = weakref.WeakKeyDictionary()


def zero_classes() -> tuple[type[Any], ...]:
    """Return the classes of ZeRO optimizers that the program has imported."""
    found: list[type[Any]] = []
    for module, name in MODULES.items():
        kind = getattr(sys.modules.get(module), "__dict__", {}).get(name)
        if isinstance(kind, type):
            found.append(kind)
    return tuple(found)


def is_zero_optimizer(thing: object) -> bool:
    """Return whether it is a ZeRO optimizer."""
    return issubclass(type(thing), zero_classes())


def attributes(thing: object) -> dict[str, Any]:
    """Return the attributes of the object itself."""
    return vars(thing)


def inner_optimizers(zero: object) -> list[torch.optim.Optimizer]:
    """Return torch's optimizers that a ZeRO optimizer steps on its partitions."""
    own = vars(zero)
    inner = (own.get("optimizer"), own.get("backup_optimizer"))
    return [each for each in inner if isinstance(each, torch.optim.Optimizer)]


def kind_of(optimizer: object) -> str:
    """Return the class name of an optimizer, of a ZeRO optimizer that of the one inside."""
    if is_zero_optimizer(optimizer):
        for inner in inner_optimizers(optimizer):
            return type(inner).__name__
    return type(optimizer).__name__


def name_of(optimizer: object, names: Mapping[int, str]) -> str | None:
    """Return the script's name for an optimizer, of a ZeRO optimizer the shorter one of its own and
    of that for the one inside; `names` are by id.
    """
    inner = inner_optimizers(optimizer) if is_zero_optimizer(optimizer) else []
    known = [name for each in (optimizer, *inner) if (name := names.get(id(each))) is not None]
    return min(known, key=lambda name: name.count(".") + name.count("["), default=None)


def is_stage_3(own: Mapping[str, Any]) -> bool:
    """Return whether a ZeRO optimizer with these attributes partitions the parameters, too."""
    return "fp16_partitioned_groups" in own


def is_without_zero(own: Mapping[str, Any]) -> bool:
    """Return whether an optimizer with these attributes only copies weights to float32: then the
    gradients are at the parameters when its step begins.
    """
    return "fp16_groups" in own and not is_stage_3(own)


def is_bf16(own: Mapping[str, Any]) -> bool:
    """Return whether an optimizer with these attributes keeps whole gradients in float32."""
    return "fp32_groups_gradients" in own


def zero_groups(zero: object) -> list[dict[str, Any]]:
    """Return the parameter groups of the optimizer inside, with the parameters of the model."""
    own = vars(zero)
    groups: list[Mapping[str, Any]] = own["optimizer"].param_groups
    by_group: list[list[torch.Tensor]] = [[] for _ in groups]
    if is_stage_3(own):
        for number, parameters in enumerate(cast("list[list[torch.Tensor]]", own["fp16_groups"])):
            by_group[own["sub_group_to_group_id"][number]] += parameters
    else:
        kept = ("fp16_groups", "bf16_groups", "bit16_groups")
        by_group = [list(each) for each in next(own[name] for name in kept if name in own)]
    if len(groups) == len(by_group):
        _WHOLE[zero] = list(groups)
    whole = _WHOLE.get(zero, groups)
    return [
        {**group, "params": parameters} for group, parameters in zip(whole, by_group, strict=True)
    ]
