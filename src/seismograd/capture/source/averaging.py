"""Find the statement that moves the weights of a copy toward those of what is trained."""

from __future__ import annotations

import ast
from functools import lru_cache

from seismograd.capture.source.shown_sources import source_of
from seismograd.capture.source.statements import name_of, one_line
from seismograd.capture.source.void_updates import WEIGHTS, FoundUpdate
from seismograd.parsed_source import parsed

MOVING = ("lerp_", "mul_", "add_")


@lru_cache(maxsize=8)
def averaging_statement(files: tuple[str, ...]) -> FoundUpdate | None:
    """Return the only one in these files in a loop over weights."""
    found: dict[str, FoundUpdate] = {}
    for file in files:
        source = source_of(file)
        tree = parsed(source)
        for loop in () if tree is None else ast.walk(tree):
            if not isinstance(loop, ast.For) or not _is_over_weights(loop):
                continue
            for node in loop.body:
                if isinstance(node, ast.Expr) and _moves(node.value):
                    place = f"{file}:{node.lineno}"
                    found[place] = FoundUpdate(place, one_line(node, source), "average", "")
    return next(iter(found.values())) if len(found) == 1 else None


def _is_over_weights(loop: ast.For) -> bool:
    called = {name_of(each.func) for each in ast.walk(loop.iter) if isinstance(each, ast.Call)}
    return bool(called.intersection(WEIGHTS))


def _moves(value: ast.expr) -> bool:
    """Return whether a weight goes a part of the way: a plain copy is none."""
    return any(
        isinstance(each, ast.Call)
        and (
            name_of(each.func) in MOVING
            or (
                name_of(each.func) == "copy_"
                and any(isinstance(part, ast.BinOp) for arg in each.args for part in ast.walk(arg))
            )
        )
        for each in ast.walk(value)
    )
