"""Detect models in which all parameters of adapters, such as LoRA's, are frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from seismograd.capture.names.parameter_names import NamedParameter

PEFT = "peft"
# beginnings of the names of modules or parameters, and names that others may have as well
PREFIXES = ("lora_", "lokr_", "hada_w", "ia3_l", "vera_lambda", "prompt_embedd", "prompt_encoder")
COMMON = ("adapter", "adapters")


@dataclass(frozen=True, slots=True)
class FrozenAdapters:
    """`for_inference`: peft has loaded them for that, which is what it does unless it is told
    otherwise.
    """

    parameters: Sequence[NamedParameter]
    for_inference: bool
    is_certain: bool  # and no layer that is called an adapter for another reason


def frozen_adapters(
    model: torch.nn.Module, parameters: Sequence[NamedParameter]
) -> FrozenAdapters | None:
    """Return the adapters of a model where it has some and none of their parameters trains."""
    of_peft = [m for m in model.modules() if type(m).__module__.partition(".")[0] == PEFT]
    ids = {id(tensor) for module in of_peft for tensor in _adapters_of(module)}
    certain = [p for p in parameters if id(p.tensor) in ids or _is_called_so(p.name)]
    found = certain or [p for p in parameters if _is_called_like_one(p.name)]
    if not found or any(p.tensor.requires_grad for p in found):
        return None
    for_inference = any(_is_for_inference(module) for module in of_peft)
    return FrozenAdapters(found, for_inference, bool(certain))


def _adapters_of(module: torch.nn.Module) -> Iterable[torch.Tensor]:
    """Yield the parameters that a module of peft adds to those of the model."""
    given: Any = getattr(type(module), "adapter_layer_names", ())
    names = cast("tuple[object, ...]", given) if isinstance(given, tuple) else ()
    for name in (*names, "prompt_encoder"):
        part = vars(module).get("_modules", {}).get(name)
        if isinstance(part, torch.nn.Module):
            yield from part.parameters()


def _is_called_so(name: str) -> bool:
    return any(part.startswith(PREFIXES) for part in name.split("."))


def _is_called_like_one(name: str) -> bool:
    return any(part in COMMON or part.endswith("_adapter") for part in name.split("."))


def _is_for_inference(module: torch.nn.Module) -> bool:
    kept: Any = vars(module).get("peft_config")
    settings = cast("dict[object, object]", kept) if isinstance(kept, dict) else {}
    modes = [vars(each).get("inference_mode") for each in settings.values()]
    return bool(modes) and all(mode is True for mode in modes)
