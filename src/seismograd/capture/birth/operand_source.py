"""What the source says of the operand of an operation: what computes it, and whether it can be the
zero.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

MAX_STEPS = 6  # from a name to what is assigned to it, or through a view
VIEWS = frozenset(
    {
        *("squeeze", "unsqueeze", "view", "reshape", "flatten", "transpose", "permute", "t", "to"),
        *("contiguous", "clone", "expand", "expand_as", "view_as", "float", "double", "type_as"),
    }
)
MODULES = ("torch", "F", "functional", "nn", "special")
OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.MatMult: "mm",
}


def made_by(operand: ast.expr, scope: ast.AST) -> tuple[str, ...]:
    """Return what computes an operand and what computes the operand of that, as the graph calls it;
    shorter where the source of the function does not show it.
    """
    first, below = _maker(_resolved(operand, scope))
    if not first:
        return ()
    second = _maker(_resolved(below, scope))[0] if below is not None else ""
    return (first, second) if second else (first,)


def logits_of(operand: ast.expr, scope: ast.AST) -> str:
    """Return what `logsigmoid` has to be given to compute the logarithm of an operand that is
    `sigmoid(x)` or `1 - sigmoid(x)`; empty where it is neither, or x is no plain variable.
    """
    name, inner = _maker(_resolved(operand, scope))
    sign = "-" if name == "rsub" else ""
    if sign and inner is not None:
        name, inner = _maker(_resolved(inner, scope))
    if name != "sigmoid" or inner is None or not _is_plain(inner, scope):
        return ""
    return f"{sign}{ast.unparse(inner)}"


def is_never_zero(divisor: ast.expr, scope: ast.AST, known: Mapping[str, Any]) -> bool:
    """Return whether a divisor is a number other than zero: in the source of the function, or a
    variable's value now.
    """
    given = _resolved(divisor, scope)
    value: object = given.value if isinstance(given, ast.Constant) else None
    if isinstance(given, ast.Name):
        value = known.get(given.id)
    return isinstance(value, int | float) and value != 0


def _maker(expression: ast.expr | None) -> tuple[str, ast.expr | None]:
    """Return the operation that an expression is, and its first operand; empty, `None` where it is
    none.
    """
    match expression:
        case ast.BinOp(left=ast.Constant(value=1), op=ast.Sub(), right=right):
            return "rsub", right
        case ast.BinOp(left=left, op=ast.Sub()):
            return "sub", left
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)], right if isinstance(left, ast.Constant) else left
        case ast.Call(func=ast.Attribute(value=owner, attr=name), args=args):
            if _is_module(owner):
                return name.removesuffix("_"), args[0] if args else None
            return name.removesuffix("_"), owner
        case _:
            return "", None


def _resolved(expression: ast.expr | None, scope: ast.AST) -> ast.expr | None:
    """Return what is assigned to a name, where that happens once in the function, and what a view
    is of.
    """
    for _ in range(MAX_STEPS):
        if isinstance(expression, ast.Name):
            value = _only_value(expression.id, scope)
            if value is None:
                return expression
            expression = value
            continue
        name, owner = _maker(expression)
        if name not in VIEWS or owner is None:
            return expression
        expression = owner
    return expression


def _only_value(name: str, scope: ast.AST) -> ast.expr | None:
    """Return the value of the only assignment to a name in a function."""
    if _num_bound(name, scope) != 1:
        return None
    for node in ast.walk(scope):
        if (
            isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
        ):
            return node.value
    return None


def _is_plain(expression: ast.expr, scope: ast.AST) -> bool:
    """Return whether an expression is a variable that means the same in the whole function."""
    while isinstance(expression, ast.Attribute):
        expression = expression.value
    return isinstance(expression, ast.Name) and _num_bound(expression.id, scope) <= 1


def _num_bound(name: str, scope: ast.AST) -> int:
    return sum(
        (isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.arg) and node.arg == name)
        for node in ast.walk(scope)
    )


def _is_module(owner: ast.expr) -> bool:
    last = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return last in MODULES
