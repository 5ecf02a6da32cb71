"""Name parameters in code by few modules, which hold nothing else that is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seismograd.analysis.script_names import in_script
from seismograd.schema import Parameter


@dataclass(frozen=True, slots=True)
class Piece:
    """An expression of a module, or of one parameter."""

    text: str
    is_module: bool

    @property
    def starred(self) -> str:
        """Return it as an element of a list of parameters."""
        return f"*{self.text}.parameters()" if self.is_module else self.text

    @property
    def listed(self) -> str:
        """Return it as a list or an iterator of its parameters."""
        return f"{self.text}.parameters()" if self.is_module else f"[{self.text}]"


def cover(wanted: Sequence[Parameter], known: Iterable[Parameter], root: str) -> list[Piece]:
    """Return expressions for these parameters, all of one model that the script calls `root`;
    what no optimizer holds beside them may be in a module with them.
    """
    of_root = [each for each in known if each.root == wanted[0].root]
    held = [_path(each) for each in of_root if each.optimizer is not None]
    pieces = _below("", [_path(each) for each in wanted], held)
    return [Piece(in_script(path, root), is_module) for path, is_module in pieces]


def listed(pieces: Sequence[Piece]) -> str:
    """Return an expression for the parameters of these pieces."""
    if len(pieces) == 1:
        return pieces[0].listed
    return f"[{', '.join(each.starred for each in pieces)}]"


def _path(parameter: Parameter) -> str:
    """Return the path of a parameter below its model."""
    return parameter.name.removeprefix(f"{parameter.model}.") if parameter.model else parameter.name


def _below(prefix: str, wanted: Sequence[str], held: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the paths of the modules and parameters below a module, and whether it is one."""
    inside = [each for each in wanted if each.startswith(prefix)]
    if not any(each.startswith(prefix) for each in held):
        return [(prefix.rstrip("."), True)]
    found: list[tuple[str, bool]] = []
    for part in dict.fromkeys(each.removeprefix(prefix).partition(".")[0] for each in inside):
        if prefix + part in inside:
            found.append((prefix + part, False))
        else:
            found += _below(f"{prefix}{part}.", inside, held)
    return found
