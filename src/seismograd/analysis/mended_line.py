"""Write a line of the script as it should read: the operation that failed, kept away from where it
is not defined.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from seismograd.parsed_source import parsed
from seismograd.schema import BirthReason

SMALL = ast.Name("1e-8")  # a constant would be written 1e-08
SMALL_HALF = ast.Name("1e-4")  # in float16 the other one is zero
INTERVAL_ENDS = {"acos": 1.0, "asin": 1.0, "atanh": 1.0, "erfinv": 1.0}
INSIDE = 1 - 1e-6
CALLED = {"**": "pow"}  # an operator as a function
LARGEST_EXPONENT = 80.0  # e to the power of this is a float32


def mended_line(
    text: str, operation: str, reason: str, phase: str, dtype: str = "", logits: str = ""
) -> str:
    """Return the line with the operation mended; empty where there is no such mend, or the line is
    no statement by itself. `logits`: what `logsigmoid` is given in place of a logarithm, if any.
    """
    is_half = reason == BirthReason.OVERFLOW and dtype in ("float16", "bfloat16")
    small = SMALL_HALF if dtype == "float16" else SMALL
    mend = _in_float32 if is_half else _mend_for(operation, reason, phase, small)
    tree = _parsed(text)
    if mend is None or tree is None:
        return ""
    mender = _Mender(operation, mend, logits)
    mended = ast.fix_missing_locations(mender.visit(tree))
    if mender.num != 1:
        return ""
    return ast.unparse(mended).removesuffix("\n    pass")


Mend = Callable[[ast.expr], ast.expr]


def _mend_for(operation: str, reason: str, phase: str, small: ast.expr) -> Mend | None:
    """Return what to do with the operand of an operation. `small`: what keeps it from zero."""
    if reason == BirthReason.OUTSIDE and operation in INTERVAL_ENDS:
        end = INSIDE * INTERVAL_ENDS[operation]
        return lambda x: _method(x, "clamp", ast.UnaryOp(ast.USub(), ast.Constant(end)), end)
    if operation in ("log", "log2", "log10", "/", "rsqrt"):
        zero = reason in (BirthReason.ZERO, BirthReason.NEGATIVE)
        return (lambda x: _method(x, "clamp_min", small)) if zero else None
    if operation in ("sqrt", "**", "norm"):
        if reason == BirthReason.NEGATIVE:
            return lambda x: _method(x, "clamp_min", small)
        if reason == BirthReason.ZERO:
            if phase == "backward":
                return lambda x: ast.BinOp(x, ast.Add(), small)
            return lambda x: _method(x, "clamp_min", small)
    if operation in ("std", "var") and reason == BirthReason.ONE_SAMPLE:
        return lambda x: x
    if operation in ("exp", "expm1") and reason == BirthReason.OVERFLOW:
        return _clamped_above
    return None


def _parsed(text: str) -> ast.Module | None:
    for attempt in (text, f"{text}\n    pass"):
        tree = parsed(attempt)
        if tree is None:
            continue
        return tree if len(tree.body) == 1 else None
    return None


class _Mender(ast.NodeTransformer):
    """Mends every use of an operation, and counts them."""

    def __init__(self, operation: str, mend: Mend, logits: str) -> None:
        self._operation, self._mend, self._logits = operation, mend, logits
        self.num = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Mend `x.sqrt()` and `torch.sqrt(x)`; a power may be written `x.pow(p)`."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute):
            return node
        written = CALLED.get(self._operation, self._operation)
        if node.func.attr.removesuffix("_") != written:
            return node
        self.num += 1
        if isinstance(node.func.value, ast.Name) and node.func.value.id in ("torch", "F"):
            if not node.args:
                return node
            joined = self._joined(node.args[0])
            if joined is not None:
                return joined
            node.args[0] = self._mend(node.args[0])
        else:
            joined = self._joined(node.func.value)
            if joined is not None:
                return joined
            node.func.value = self._mend(node.func.value)
        if self._operation in ("std", "var"):
            node.keywords = [each for each in node.keywords if each.arg != "correction"]
            node.keywords.append(ast.keyword("correction", ast.Constant(0)))
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Mend `x / y` and `x ** p`."""
        self.generic_visit(node)
        if self._operation == "/" and isinstance(node.op, ast.Div):
            self.num += 1
            node.right = self._mend(node.right)
        elif self._operation == "**" and isinstance(node.op, ast.Pow):
            self.num += 1
            node.left = self._mend(node.left)
        return node

    def _joined(self, given: ast.expr) -> ast.expr | None:
        """Return the logarithm of a softmax or a sigmoid as the one function that computes both."""
        if self._operation == "log" and self._logits:
            return ast.Call(
                ast.Attribute(ast.Name("F"), "logsigmoid"), [ast.Name(self._logits)], []
            )
        if self._operation != "log" or not isinstance(given, ast.Call):
            return None
        function = given.func
        if not isinstance(function, ast.Attribute):
            return None
        if function.attr == "softmax":
            function.attr = "log_softmax"
            return given
        if function.attr == "sigmoid":
            owner = function.value
            of_torch = isinstance(owner, ast.Name) and owner.id in ("torch", "F")
            inner = given.args[0] if of_torch and given.args else owner
            return _logsigmoid(inner)
        return None


def _logsigmoid(logits: ast.expr) -> ast.expr:
    return ast.Call(ast.Attribute(ast.Name("F"), "logsigmoid"), [logits], [])


def _method(owner: ast.expr, name: str, *given: ast.expr | float) -> ast.expr:
    arguments = [each if isinstance(each, ast.expr) else ast.Constant(each) for each in given]
    return ast.Call(ast.Attribute(owner, name), arguments, [])


def _in_float32(owner: ast.expr) -> ast.expr:
    return ast.Call(ast.Attribute(owner, "float"), [], [])


def _clamped_above(owner: ast.expr) -> ast.expr:
    return ast.Call(
        ast.Attribute(owner, "clamp"), [], [ast.keyword("max", ast.Constant(LARGEST_EXPONENT))]
    )
