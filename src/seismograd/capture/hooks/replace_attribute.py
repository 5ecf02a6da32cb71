"""Replace an attribute and restore the very same object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

Undo = Callable[[], None]

# `warnings` skips frames whose file name has both words when it counts up to the line that a
# warning is attributed to (`stacklevel`), as it skips those of an import; so what torch warns of
# inside a patched function is attributed to the same line of the script as without us.
PASSED_OVER = " (passed over by warnings, like importlib._bootstrap)"


def replace(owner: Any, name: str, wrapper: Callable[..., Any]) -> Undo:
    """Set `owner.name` (a module's or a class's own attribute) to `wrapper`, whose frame no
    `stacklevel` of a warning counts.

    The undo restores the original, unless another program has patched over it since.
    """
    pass_over(wrapper)
    original: object = cast(dict[str, object], vars(owner))[name]
    setattr(owner, name, wrapper)

    def undo() -> None:
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, original)

    return undo


def pass_over(wrapper: Callable[..., Any]) -> None:
    """Have no `stacklevel` of a warning count the frames of a function."""
    function: Any = wrapper
    code = function.__code__
    if not code.co_filename.endswith(PASSED_OVER):
        function.__code__ = code.replace(co_filename=code.co_filename + PASSED_OVER)


def undo_all(undos: list[Undo]) -> Undo:
    """Return one undo for several, last first."""

    def undo() -> None:
        for one in reversed(undos):
            one()

    return undo
