"""Isolate our torch calls from the training program's modes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

# Nothing public leaves all modes of a user at once.
from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore[reportPrivateUsage]

_C = torch._C  # pyright: ignore[reportPrivateUsage]


@contextmanager
def without_user_modes() -> Generator[None, None, None]:
    """Inside, no graph is recorded, nothing is cast by autocast, and no mode or tensor subclass of
    the user's intercepts a call.

    A default device is such a mode (a `TorchFunctionMode`), so factory functions inside must name
    their device, and their dtype.
    """
    # The outermost first: turning gradients off is itself a call that a mode can see.
    with (
        _C.DisableTorchFunction(),
        torch.no_grad(),
        _C._DisableAutocast(),  # pyright: ignore[reportPrivateUsage]
    ):
        if _C._len_torch_dispatch_stack() == 0:  # pyright: ignore[reportPrivateUsage]
            yield
            return
        with _disable_current_modes():
            yield
