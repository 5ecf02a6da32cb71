"""Find a straight-through estimator, `z + (q - z).detach()`, in the source of a forward pass."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import CodeType

from seismograd.capture.source.statements import Statement, statements


@dataclass(frozen=True, slots=True)
class StraightThrough:
    """The statement; the gradient of its result goes to the variable `passes`, and none to
    `blocked`, which `part` of the module, an attribute, has made.
    """

    statement: Statement
    passes: str
    blocked: str
    part: str


def straight_through(codes: Iterable[CodeType], parts: Collection[str]) -> StraightThrough | None:
    """Return the only such statement in these functions whose blocked value is computed by one of
    these attributes of the module.
    """
    found: list[StraightThrough] = []
    for code in codes:
        lines = {line for *_, line in code.co_lines()}
        inside = [
            s
            for s in statements(code.co_filename)
            if s.function == code.co_name and s.line in lines
        ]
        for statement in inside:
            names = _names(statement.node)
            part = "" if names is None else _maker(names[1], inside, parts)
            if names is not None and part:
                found.append(StraightThrough(statement, *names, part))
    return found[0] if len(found) == 1 else None


def _names(node: ast.stmt) -> tuple[str, str] | None:
    """Return z and q of `… = z + (q - z).detach()`."""
    match node:
        case ast.Assign(
            value=ast.BinOp(
                left=ast.Name(id=outer),
                op=ast.Add(),
                right=ast.Call(
                    func=ast.Attribute(
                        value=ast.BinOp(
                            left=ast.Name(id=blocked), op=ast.Sub(), right=ast.Name(id=inner)
                        ),
                        attr="detach",
                    )
                ),
            )
        ) if outer == inner:
            return outer, blocked
        case _:
            return None


def _maker(name: str, inside: Iterable[Statement], parts: Collection[str]) -> str:
    """Return the attribute of the module that a variable is computed by, the only one assigned to
    it; empty for none.
    """
    values = [
        s.node.value
        for s in inside
        if isinstance(s.node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == name for t in s.node.targets)
    ]
    used = {
        each.attr
        for value in values
        for each in ast.walk(value)
        if isinstance(each, ast.Attribute)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }
    fitting = used & set(parts)
    return fitting.pop() if len(values) == 1 and len(fitting) == 1 else ""
