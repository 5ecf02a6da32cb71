"""Find what the script calls the terms of a loss."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, nearest, statements

MAX_LENGTH = 40  # characters of a term


def names_of_terms(file: str, near: int, num: int) -> tuple[str, ...] | None:
    """Return the texts of the terms of the only statement in training that adds up this many, in
    their order, without the numbers that they are multiplied by; of several such statements that of
    the function around a line. `None` where there is none, and where two terms read alike.
    """
    known = statements(file)
    found = [s for s in known if not s.evaluates and len(_terms_of(s)) == num]
    only = nearest(found, known, near)
    if only is None:
        return None
    names = tuple(ast.unparse(_unweighted(term)) for term in _terms_of(only))
    alike = len(set(names)) < num or any(len(name) > MAX_LENGTH for name in names)
    return None if alike else names


def _terms_of(statement: Statement) -> list[ast.expr]:
    match statement.node:
        case ast.Assign(value=value) | ast.Return(value=ast.expr() as value):
            return _added(value)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=value, attr="backward"))):
            return _added(value)
        case _:
            return []


def _added(value: ast.expr) -> list[ast.expr]:
    match value:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            return [*_added(left), *_added(right)]
        case ast.BinOp(left=left, op=ast.Div()) if isinstance(left, ast.BinOp):
            return _added(left)
        case _:
            return [value]


def _unweighted(term: ast.expr) -> ast.expr:
    match term:
        case ast.BinOp(left=ast.Constant(), op=ast.Mult(), right=value):
            return _unweighted(value)
        case ast.BinOp(left=value, op=ast.Mult() | ast.Div(), right=ast.Constant()):
            return _unweighted(value)
        case _:
            return term
