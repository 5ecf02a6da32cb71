"""Write an addition by an index so that nothing of it is lost."""

from __future__ import annotations

import ast

from seismograd.parsed_source import parsed


def with_accumulation(text: str) -> str:
    """Return `total.index_add_(0, index, x)` for `total[index] += x`, or `index_put_` where the
    index has several parts; empty where the statement is another one.
    """
    tree = parsed(text)
    match None if tree is None else tree.body:
        case [ast.AugAssign(ast.Subscript(value, index), op, added)]:
            return _accumulated(value, index, op, added)
        case [
            ast.Assign(
                targets=[ast.Subscript(value, index) as target],
                value=ast.BinOp(left=left, op=op, right=added),
            )
        ] if ast.unparse(left) == ast.unparse(target):
            return _accumulated(value, index, op, added)
        case _:
            return ""


def _accumulated(value: ast.expr, index: ast.expr, op: ast.operator, added: ast.expr) -> str:
    if not isinstance(op, ast.Add | ast.Sub):
        return ""
    is_added = isinstance(op, ast.Add)
    total, places, summand = ast.unparse(value), ast.unparse(index), ast.unparse(added)
    if isinstance(index, ast.Tuple):
        sign = "" if is_added else "-"
        whole = f"({summand})" if sign and not isinstance(added, ast.Name) else summand
        has_slices = any(isinstance(each, ast.Slice) for each in ast.walk(index))
        places = places if places.startswith("(") else f"({places})"
        return "" if has_slices else f"{total}.index_put_({places}, {sign}{whole}, accumulate=True)"
    return f"{total}.index_add_(0, {places}, {summand}{'' if is_added else ', alpha=-1'})"
