"""Single scalars of a parameter's gradient, as a user names them: `fc1.weight[0,0]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.errors import SeismogradError
from seismograd.i18n import say

_ELEMENT = re.compile(
    r"(?P<parameter>[^\[\]]+(?:\[[^\[\]]*\][^\[\]]+)*)(?P<index>(?:\[[^\[\]]*\])+)"
)
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


@dataclass(frozen=True, slots=True)
class ElementSpec:
    """One scalar of one parameter; a negative index counts from the end, `()` is the only scalar
    of a 0-d parameter.
    """

    parameter: str
    index: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.parameter}[{','.join(map(str, self.index))}]"

    def within(self, shape: Sequence[int]) -> ElementSpec:
        """Return the same scalar with every index counted from the start.

        Raises:
            SeismogradError: a parameter of this shape has no such scalar.
        """
        if len(self.index) != len(shape):
            raise SeismogradError(
                say(
                    "{element}: the shape of {parameter} is {shape}",
                    element=str(self),
                    parameter=self.parameter,
                    shape=_brackets(shape),
                ),
                say(
                    "expected {expected} {expected:index|indices}, got {given}",
                    expected=len(shape),
                    given=len(self.index),
                ),
            )
        for index, size in zip(self.index, shape, strict=True):
            if not -size <= index < size:
                raise SeismogradError(
                    say(
                        "{element} is out of range: the shape of {parameter} is {shape}",
                        element=str(self),
                        parameter=self.parameter,
                        shape=_brackets(shape),
                    ),
                    say(
                        "indices start at 0; negative indices count back from the end, which is -1"
                    ),
                )
        return ElementSpec(
            self.parameter,
            tuple(index % size for index, size in zip(self.index, shape, strict=True)),
        )


def parse_element(text: str) -> ElementSpec:
    """Read `fc1.weight[0,0]` or, as one would index a tensor, `fc1.weight[0][0]`.

    Raises:
        SeismogradError: `text` is not of that form.
    """
    matched = _ELEMENT.fullmatch(text.strip())
    indices = _indices(matched["index"]) if matched else None
    if matched is None or indices is None:
        raise SeismogradError(
            say("{text} does not name an element", text=repr(text)),
            say("give a parameter and its indices, such as 'fc1.weight[0,0]'"),
        )
    return ElementSpec(matched["parameter"].strip(), indices)


def _indices(brackets: str) -> tuple[int, ...] | None:
    inner: list[str] = _BRACKETS.findall(brackets)
    if inner == [""]:
        return ()
    parts = [part for group in inner for part in group.split(",")]
    return (
        tuple(int(part) for part in parts)
        if all(_INTEGER.fullmatch(part) for part in parts)
        else None
    )


def _brackets(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
