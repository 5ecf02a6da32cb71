"""The seed of torch's random numbers: patches of what sets it, and of what sets the state.

`torch.manual_seed` itself is what `torch.compile` and TorchScript know it by, so it stays as it is:
the patch is of the function that it tells the seed for devices of other makers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import torch

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all
from seismograd.capture.loop.seed_log import SEEDS

TELLS_SEED, SETS_STATE = "_seed_custom_device", "set_rng_state"


def install(_: EventHub) -> Undo:
    """Remember the seeds from now on. No session is told: it looks when it wants to know."""
    functions = cast("dict[str, Callable[..., Any]]", vars(torch.random))
    undos: list[Undo] = [SEEDS.forget]
    if TELLS_SEED in functions:  # torch's own, not promised to anybody
        undos.append(replace(torch.random, TELLS_SEED, _telling(functions[TELLS_SEED])))
    sets = functions[SETS_STATE]
    wrapper = _setting(sets)
    undos += [
        replace(owner, SETS_STATE, wrapper)
        for owner in (torch.random, torch)
        if vars(owner).get(SETS_STATE) is sets
    ]
    return undo_all(undos)


def _telling(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def tells_seed(seed: Any) -> Any:
        if type(seed) is int and not torch.compiler.is_compiling():
            SEEDS.seeded(seed)
        return original(seed)

    return tells_seed


def _setting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def set_rng_state(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not torch.compiler.is_compiling():
            SEEDS.restored()
        return result

    return set_rng_state
