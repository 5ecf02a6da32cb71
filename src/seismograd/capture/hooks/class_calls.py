"""Give a class of modules another `__call__`, which leaves nothing on the modules themselves: no
hook, no attribute, nothing that a copy, a pickle or a check for hooks would see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seismograd.capture.hooks.replace_attribute import pass_over, replace

UndoCall = Callable[[], bool]


def replace_call(kind: type, wrapper: Callable[..., Any]) -> UndoCall:
    """Have modules of this class called through `wrapper`.

    The undo returns whether the wrapper is out of use. It is not while another patch lies over it,
    on a class that had no `__call__` of its own: call the undo again when that one is gone.
    """
    if "__call__" in vars(kind):
        undo_own = replace(kind, "__call__", wrapper)

        def restore() -> bool:
            undo_own()
            return True

        return restore
    pass_over(wrapper)
    kind.__call__ = wrapper  # type: ignore[assignment]  # pyright: ignore

    def delete() -> bool:
        if vars(kind).get("__call__") is wrapper:
            del kind.__call__  # type: ignore[misc]  # pyright: ignore
        return "__call__" not in vars(kind)

    return delete
