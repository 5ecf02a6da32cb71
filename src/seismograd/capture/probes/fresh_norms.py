"""Find batch normalization whose running averages are those that it was made with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable

MAX_NORMS = 64


def fresh_norm(copy: torch.nn.Module | None, source: torch.nn.Module | None) -> str:
    """Return the name of the first such layer, where all of the copy are such and those of the
    other network are not; else nothing.
    """
    if copy is None or source is None:
        return ""
    ours, theirs = _norms(copy), _norms(source)
    if not ours or len(ours) != len(theirs):
        return ""
    if any(_is_fresh(norm) is not True for _, norm in ours):
        return ""
    return ours[0][0] if all(_is_fresh(norm) is False for _, norm in theirs) else ""


def _norms(module: torch.nn.Module) -> list[tuple[str, _BatchNorm]]:
    modules = cast("Iterator[tuple[str, torch.nn.Module]]", module.named_modules())
    return [
        (name, each)
        for name, each in modules
        if isinstance(each, _BatchNorm) and each.running_mean is not None
    ][:MAX_NORMS]


def _is_fresh(norm: _BatchNorm) -> bool | None:
    """Return whether nothing was ever averaged; `None` where that cannot be read."""
    mean, variance = norm.running_mean, norm.running_var
    for each in (mean, variance):
        if type(each) not in PLAIN_TYPES or each is None or not is_readable(each):
            return None
    assert mean is not None
    assert variance is not None
    return not bool(mean.any()) and bool((variance == 1).all())
