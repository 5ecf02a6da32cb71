"""Find a statement that is meant to copy or average weights and changes nothing: what it writes to
is a temporary dictionary, a variable of a loop, or the result of an operation that nobody keeps.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from seismograd.capture.source.shown_sources import source_of
from seismograd.capture.source.statements import is_simple, name_of, one_line
from seismograd.parsed_source import parsed

OUT_OF_PLACE = ("add", "copy", "div", "lerp", "mul", "sub")
THE_SAME = ("data", "detach")  # what leads from a parameter to itself
WEIGHTS = ("parameters", "buffers", "named_parameters", "state_dict", "values", "items")


@dataclass(frozen=True, slots=True)
class FoundUpdate:
    """Where it stands, and its text. `kind`: `update` of a temporary `state_dict()`, `entry` of
    one, `dict` of which entries are set and that is never loaded, `variable` of a loop, or `result`
    of an operation; `name` of the dictionary, or of the network.
    """

    place: str
    text: str
    kind: str
    name: str


@lru_cache(maxsize=8)
def void_update(files: tuple[str, ...]) -> FoundUpdate | None:
    """Return the only one in these files; `None` where there are several."""
    found: list[FoundUpdate] = []
    for file in files:
        source = source_of(file)
        tree = parsed(source)
        for node, kind, name in () if tree is None else _void(tree):
            place = f"{file}:{node.lineno}"
            found.append(FoundUpdate(place, one_line(node, source), kind, name))
    return found[0] if len(found) == 1 else None


def _void(tree: ast.AST) -> Iterator[tuple[ast.stmt, str, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(
                        value=ast.Call(func=ast.Attribute(value=of, attr="state_dict"), args=[]),
                        attr="update",
                    )
                )
            ):
                yield node, "update", ast.unparse(of)
            case ast.Assign(
                targets=[
                    ast.Subscript(
                        value=ast.Call(func=ast.Attribute(value=of, attr="state_dict"), args=[])
                    )
                ]
            ):
                yield node, "entry", ast.unparse(of)
            case ast.For():
                yield from _in_loop(node)
            case _:
                pass
    for scope in ast.walk(tree):
        if isinstance(scope, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _never_loaded(scope)


def _in_loop(loop: ast.For) -> Iterator[tuple[ast.stmt, str, str]]:
    """Yield what a loop over weights does to its own variables only."""
    called = {name_of(each.func) for each in ast.walk(loop.iter) if isinstance(each, ast.Call)}
    if not called.intersection(WEIGHTS):
        return
    names = {each.id for each in ast.walk(loop.target) if isinstance(each, ast.Name)}
    for position, node in enumerate(loop.body):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.BinOp() as value) if (
                name in names
            ):
                used = {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}
                later = [*loop.body[position + 1 :], *loop.orelse]
                if len(used & names) > 1 and not any(_reads(each, name) for each in later):
                    yield node, "variable", name
            case ast.Expr(value=ast.Call() as call):
                name, method = _first_method(call)
                used = {each.id for each in ast.walk(call) if isinstance(each, ast.Name)}
                if name in names and method in OUT_OF_PLACE and len(used & names) > 1:
                    yield node, "result", name
            case _:
                pass


def _first_method(call: ast.Call) -> tuple[str, str]:
    """Return the variable at the beginning of a chain of calls, and the first method that computes
    something from it.
    """
    chain: list[str] = []
    node: ast.expr = call
    while True:
        match node:
            case ast.Call(func=ast.Attribute() as function):
                node = function
            case ast.Attribute(value=value, attr=attr):
                chain.append(attr)
                node = value
            case ast.Name(id=name):
                computing = [each for each in reversed(chain) if each not in THE_SAME]
                return name, computing[0] if computing else ""
            case _:
                return "", ""


def _reads(node: ast.AST, name: str) -> bool:
    return any(isinstance(each, ast.Name) and each.id == name for each in ast.walk(node))


def _never_loaded(
    scope: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[tuple[ast.stmt, str, str]]:
    """Yield the statements that set an entry of a `state_dict()` with a name, where nothing is done
    with that dictionary but to set and to read its entries.
    """
    own = list(_own(scope))
    made: list[tuple[str, str]] = []
    for each in own:
        match each:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Attribute(value=of, attr="state_dict"), args=[]),
            ):
                made.append((name, ast.unparse(of)))
            case _:
                pass
    for name, owner in made:
        if sum(each == name for each, _ in made) > 1:
            continue
        entries = [
            each
            for each in own
            if isinstance(each, ast.Assign)
            and isinstance(each.targets[0], ast.Subscript)
            and isinstance(each.targets[0].value, ast.Name)
            and each.targets[0].value.id == name
        ]
        if len(entries) == 1 and not _is_used(scope, name):
            yield entries[0], "dict", f"{name} {owner}"


def _is_used(scope: ast.AST, name: str) -> bool:
    """Return whether a dictionary is used as a whole, or written to in another way."""
    parents = {
        child: parent for parent in ast.walk(scope) for child in ast.iter_child_nodes(parent)
    }
    for each in ast.walk(scope):
        if not isinstance(each, ast.Name) or each.id != name or isinstance(each.ctx, ast.Store):
            continue
        parent = parents[each]
        if isinstance(parent, ast.Subscript) and parent.value is each:
            # `d[k].copy_(…)` writes to the weights
            above = parents.get(parent)
            if isinstance(above, ast.Attribute) and isinstance(parents.get(above), ast.Call):
                return True
            continue
        if isinstance(parent, ast.For) and parent.iter is each:
            continue
        if isinstance(parent, ast.Attribute) and parent.attr in ("keys", "items"):
            continue
        return True
    return False


def _own(scope: ast.AST) -> Iterator[ast.stmt]:
    """Yield the simple statements of a function, without those of functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.stmt) and is_simple(child):
            yield child
        else:
            yield from _own(child)
