"""The keys: a screen state and a key give the next state."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate as glob_to_regex
from typing import Any

from seismograd.views.top.snapshot import LayerRow, RunSnapshot

_ESCAPE, _ENTER, _BACK = "\x1b", ("\r", "\n"), ("\x7f", "\x08")


@dataclass(frozen=True, slots=True)
class ScreenState:
    """The state of the screen. `typing`: the filter is being typed. `inspecting`: one parameter is
    shown in full.
    """

    sort: str = "trouble"
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    inspecting: bool = False
    chosen: str = ""
    done: bool = False


def listed(snapshot: RunSnapshot, control: ScreenState) -> tuple[LayerRow, ...]:
    """Return the parameters that pass the filter, in the chosen order."""
    matches = _matcher(control.filter)
    layers = [
        layer
        for layer in snapshot.layers
        if any(matches(name) for name in (layer.parameter.name, *layer.parameter.aliases))
    ]
    return tuple(sorted(layers, key=_ORDERS[control.sort], reverse=control.reverse))


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _norm(layer: LayerRow) -> float:
    return math.inf if math.isnan(layer.norm) else -layer.norm


_ORDERS: dict[str, Callable[[LayerRow], Any]] = {
    "trouble": lambda layer: -layer.trouble,
    "norm": _norm,
    "depth": lambda layer: math.inf if layer.parameter.depth is None else layer.parameter.depth,
    "name": lambda layer: _natural(layer.parameter.name),
}
SORTS = tuple(_ORDERS)


def press(control: ScreenState, key: str, layers: Sequence[LayerRow]) -> ScreenState:
    """Return the state after a key; `layers` are those listed now. An unknown key changes
    nothing.
    """
    if control.typing:
        return _type(control, key)
    names = [layer.parameter.name for layer in layers]
    now = names.index(control.chosen) if control.chosen in names else 0
    moves = {
        "up": -1,
        "k": -1,
        "down": 1,
        "j": 1,
        "page up": -10,
        "page down": 10,
        "home": -len(names),
        "end": len(names),
    }
    if key in moves and names:
        return replace(control, chosen=names[min(max(now + moves[key], 0), len(names) - 1)])
    match key:
        case "q" | "\x03" | "\x04":
            return replace(control, done=True)
        case "\x1b":
            return (
                replace(control, inspecting=False)
                if control.inspecting
                else replace(control, filter="")
            )
        case "s":
            return replace(control, sort=SORTS[(SORTS.index(control.sort) + 1) % len(SORTS)])
        case "r":
            return replace(control, reverse=not control.reverse)
        case "/":
            return replace(control, typing=True)
        case "\r" | "\n" | "i":
            return replace(
                control, inspecting=not control.inspecting, chosen=names[now] if names else ""
            )
        case _:
            return control


def _type(control: ScreenState, key: str) -> ScreenState:
    if key in _ENTER:
        return replace(control, typing=False)
    if key == _ESCAPE:
        return replace(control, typing=False, filter="")
    if key == "\x03":
        return replace(control, done=True)
    if key in _BACK:
        return replace(control, filter=control.filter[:-1])
    return (
        replace(control, filter=control.filter + key)
        if len(key) == 1 and key.isprintable()
        else control
    )


def _matcher(text: str) -> Callable[[str], bool]:
    words = text.lower().split()
    if not words:
        return lambda _: True
    globs = [
        re.compile(glob_to_regex(word)) for word in words if any(mark in word for mark in "*?[")
    ]
    parts = [word for word in words if not any(mark in word for mark in "*?[")]
    return lambda name: (
        any(glob.fullmatch(name.lower()) for glob in globs)
        or any(part in name.lower() for part in parts)
    )
