"""`sample()` of `torch.distributions`: the patch; what its result is used for, the graph shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import distributions

from seismograd.capture.events import EventHub, Undo
from seismograd.capture.hooks.replace_attribute import replace, undo_all

# those with a `sample` of their own that have an `rsample`; all others inherit or call one of these
CLASSES = (
    "Distribution",
    "Normal",
    "ContinuousBernoulli",
    "Independent",
    "TransformedDistribution",
)


def install(hub: EventHub) -> Undo:
    """Report to the hub each sample that is drawn while gradients are enabled, as long as any
    listener wants to know.
    """

    # The hub is not in the closure of the patch itself: what compiles a call of `sample` would have
    # to understand it.
    def report(distribution: Any, value: object) -> None:
        if hub.wants_samples():
            hub.drawn(distribution, value)

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def sample(self: Any, *args: Any, **kwargs: Any) -> Any:
            value = original(self, *args, **kwargs)
            if not torch.compiler.is_compiling() and torch.is_grad_enabled():
                report(self, value)
            return value

        return sample

    found = [getattr(distributions, name, None) for name in CLASSES]
    return undo_all(
        [
            replace(each, "sample", wrapped(vars(each)["sample"]))
            for each in found
            if isinstance(each, type) and "sample" in vars(each)
        ]
    )
