"""Replace an attribute and put the very same object back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

Undo = Callable[[], None]


def replace(owner: Any, name: str, wrapper: Callable[..., Any]) -> Undo:
    """Set `owner.name` (a module's or a class's own attribute) to `wrapper`.

    The undo restores the original, unless somebody has patched over it since.
    """
    original: object = cast(dict[str, object], vars(owner))[name]
    setattr(owner, name, wrapper)

    def undo() -> None:
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, original)

    return undo


def undo_all(undos: list[Undo]) -> Undo:
    """One undo for several, last first."""

    def undo() -> None:
        for one in reversed(undos):
            one()

    return undo
