"""Write a statement of the script with another number for a setting."""

from __future__ import annotations

import ast
import math
import re

from seismograd.parsed_source import parsed

HIDDEN = "…"  # a string that the record does not hold
PLACES = {"lr": 1}  # of arguments that are often given without their name


def with_argument(text: str, call: str, argument: str, factor: float, now: float) -> str:
    """Return the statement with `argument` of the only call of `call` multiplied by a number, in
    the call itself or in its parameter groups. `now` is its value, NaN where that is not known.

    Where the record does not hold the whole statement, the call with this argument alone; empty
    where there is no such call, or neither it nor `now` says what the value is.
    """
    tree = parsed(text)
    found = [] if tree is None else calls_of(tree, call)
    if tree is None or len(found) != 1:
        return ""
    given = _given(found[0], argument)
    if HIDDEN in text:
        number = _scaled(given, factor, now)
        return "" if number is None else f"{call}(..., {argument}={ast.unparse(number)})"
    return _unparsed(tree) if _change(found[0], argument, given, factor, now) else ""


def with_flag(text: str, call: str, argument: str, value: bool) -> str:
    """Return the statement with an argument of the only call of `call` given as true, or left out;
    empty where the record does not hold the whole statement.
    """
    tree = parsed(text)
    found = [] if tree is None else calls_of(tree, call)
    if tree is None or len(found) != 1 or HIDDEN in text:
        return ""
    found[0].keywords = [each for each in found[0].keywords if each.arg != argument]
    if value:
        found[0].keywords.append(ast.keyword(argument, ast.Constant(value)))
    return _unparsed(tree)


def with_factor(text: str, factor: float) -> str:
    """Return an assignment with its value multiplied by a number."""
    tree = parsed(text)
    match tree:
        case ast.Module(body=[ast.Assign() as node]):
            node.value = _scaled(node.value, factor, math.nan) or node.value
            return _unparsed(tree)
        case _:
            return ""


def _change(
    call: ast.Call, argument: str, given: ast.expr | None, factor: float, now: float
) -> bool:
    """Change an argument where it is given, in the call or in its groups; else add it."""
    of_groups = [
        (group, at)
        for group in (ast.walk(call.args[0]) if call.args else ())
        if isinstance(group, ast.Dict)
        for at, key in enumerate(group.keys)
        if isinstance(key, ast.Constant) and key.value == argument
    ]
    for group, at in of_groups:
        group.values[at] = _scaled(group.values[at], factor, math.nan) or group.values[at]
    number = _scaled(given, factor, now)
    if number is None or (given is None and of_groups):
        return bool(of_groups)
    if given is not None and given in call.args:
        call.args[call.args.index(given)] = number
        return True
    call.keywords = [each for each in call.keywords if each.arg != argument]
    call.keywords.append(ast.keyword(argument, number))
    return True


def _scaled(given: ast.expr | None, factor: float, now: float) -> ast.expr | None:
    """Return a value multiplied by a number; `None`: not known."""
    match given:
        case ast.Constant(value=int() | float() as value):
            return _constant(value * factor)
        case ast.expr() if math.isnan(now):
            return ast.BinOp(_constant(factor), ast.Mult(), given)
        case _:
            return None if math.isnan(now) else _constant(now * factor)


def _given(call: ast.Call, argument: str) -> ast.expr | None:
    place = PLACES.get(argument)
    if place is not None and len(call.args) > place:
        return call.args[place]
    return next((each.value for each in call.keywords if each.arg == argument), None)


def calls_of(tree: ast.Module, name: str) -> list[ast.Call]:
    """Return the calls of a function or class of this name."""
    found = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    return [each for each in found if ast.unparse(each.func).rpartition(".")[2] == name]


def _constant(number: float) -> ast.expr:
    return ast.Name(_written(number))  # a constant would be written with all of its digits


def _written(number: float) -> str:
    return re.sub(r"e-0(\d)$", r"e-\1", f"{number:.1g}")


def _unparsed(tree: ast.Module) -> str:
    return ast.unparse(ast.fix_missing_locations(tree))
