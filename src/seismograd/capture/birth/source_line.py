"""Find the line of the script that an operation stands in, by reading the source around a call
that is still running.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch

from seismograd.capture.birth.called_functions import called, function_of, functions_in, own_nodes
from seismograd.capture.birth.operand_source import is_never_zero, logits_of, made_by
from seismograd.capture.loop.call_sites import is_of_package
from seismograd.capture.source.recordable_source import recordable_line
from seismograd.exception_origin import is_ours

MAX_DEPTH = 3  # calls within calls
MAX_LINE = 200  # characters that are recorded
OPERATORS: dict[str, type[ast.operator]] = {
    "/": ast.Div,
    "**": ast.Pow,
    "*": ast.Mult,
    "+": ast.Add,
    "-": ast.Sub,
    "matmul": ast.MatMult,
}
# what scripts call to get an operation
CALLS = {
    "/": ("div", "div_", "true_divide", "reciprocal", "normalize"),
    "**": ("pow", "pow_", "float_power", "square"),
    "*": ("mul", "mul_"),
    "+": ("add", "add_"),
    "-": ("sub", "sub_"),
    "norm": ("norm", "vector_norm", "pairwise_distance", "normalize", "cosine_similarity"),
    "linear": ("linear", "addmm"),
    "matmul": ("matmul", "mm", "bmm", "einsum"),
    "nll_loss": ("nll_loss", "cross_entropy"),
    "log_softmax": ("log_softmax", "cross_entropy"),
    "std": ("std", "std_mean"),
    "var": ("var", "var_mean"),
    "to": ("to", "half", "float", "bfloat16", "double"),
    "cdist": ("cdist",),
}
_HERE = tuple(
    {f"{sysconfig.get_paths()[name]}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the script. `logits`: what `logsigmoid` would be given in place of its logarithm,
    empty where that is not known.
    """

    file: str
    number: int
    function: str
    text: str
    logits: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A line, and what computes the operand of the operation that stands there."""

    line: Line
    made_by: tuple[str, ...]


def line_of_operation(
    operation: str,
    frame: FrameType | None,
    without: frozenset[CodeType] = frozenset(),
    made: tuple[str, ...] = (),
    *,
    by_zero: bool = False,
) -> Line | None:
    """Return the only line that has this operation, of the function that a frame runs, before the
    line it is at, and of what that calls; where there is none, as when a framework calls the
    script's functions, the only line of all functions in its file. The functions `without` are left
    out.

    Of several lines, return the only one whose operand is computed by what the graph says, `made`;
    `None` where that does not tell them apart. `by_zero`: it is a division by zero.
    """
    caller = _users(frame)
    if caller is None:
        return None
    scope = function_of(caller.f_code)
    if scope is None:
        return None
    search = _SourceSearch(operation, without, by_zero)
    search.within(scope, caller.f_code, caller, before=caller.f_lineno)
    found = search.found or search.in_functions_of(caller.f_code.co_filename)
    lines = list(dict.fromkeys(each.line for each in found))
    if len(lines) > 1:
        fitting = [each.line for each in found if _agree(each.made_by, made)]
        lines = list(dict.fromkeys(fitting))
    return lines[0] if len(lines) == 1 else None


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether both name the same operations, as far as both go."""
    pairs = list(zip(one, other, strict=False))
    return bool(pairs) and all(first == second for first, second in pairs)


def text_of(file: str, number: int) -> str:
    """Return what may be recorded of a line of a file, without its indentation; empty for none."""
    return recordable_line(file, number)[:MAX_LINE]


def code_below(model: torch.nn.Module) -> set[CodeType]:
    """Return the code of the forward passes of a model and of the modules below it."""
    forwards: list[Any] = [type(module).forward for module in model.modules()]
    return {each.__code__ for each in forwards if isinstance(each, FunctionType)}


class _SourceSearch:
    def __init__(self, operation: str, without: frozenset[CodeType], by_zero: bool) -> None:
        self._operator = OPERATORS.get(operation)
        self._calls = CALLS.get(operation, (operation, f"{operation}_"))
        self._reached = set(without)
        self._by_zero = by_zero
        self.found: list[Found] = []

    def within(
        self,
        scope: ast.AST,
        code: CodeType,
        frame: FrameType | None,
        before: int | None = None,
        names: dict[str, Any] | None = None,
        depth: int = 0,
    ) -> None:
        """Search a function, and those that it calls."""
        self._reached.add(code)
        known = names if frame is None else {**frame.f_globals, **frame.f_locals}
        for node in own_nodes(scope):
            number = getattr(node, "lineno", None)
            if number is None or (before is not None and number > before):
                continue
            if self._is_it(node, scope, {} if frame is None else known or {}):
                self.found.append(_found(code.co_filename, number, code.co_qualname, node, scope))
            elif isinstance(node, ast.Call) and depth < MAX_DEPTH:
                self._into(node, known or {}, depth)

    def in_functions_of(self, file: str) -> list[Found]:
        """Return the lines of all functions of a file, but of those that were left out."""
        left_out = {(code.co_filename, code.co_name) for code in self._reached}
        return [
            _found(file, node.lineno, scope.name, node, scope)
            for scope in functions_in(file)
            if (file, scope.name) not in left_out
            for node in own_nodes(scope)
            if isinstance(node, ast.expr | ast.stmt) and self._is_it(node, scope, {})
        ]

    def _into(self, call: ast.Call, names: dict[str, Any], depth: int) -> None:
        for function, owner in called(call.func, names):
            inner = function.__code__
            if inner in self._reached or not _is_of_user(inner.co_filename):
                continue
            scope = function_of(inner)
            if scope is not None:
                self.within(
                    scope, inner, None, None, {**function.__globals__, "self": owner}, depth + 1
                )

    def _is_it(self, node: ast.AST, scope: ast.AST, known: Mapping[str, Any]) -> bool:
        """Return whether a node may be the operation. `known`: the values of variables."""
        if isinstance(node, ast.BinOp | ast.AugAssign):
            below = node.right if isinstance(node, ast.BinOp) else node.value
            if self._by_zero and is_never_zero(below, scope, known):
                return False
            return self._operator is not None and isinstance(node.op, self._operator)
        if isinstance(node, ast.Call):
            function = node.func
            name = (
                function.attr
                if isinstance(function, ast.Attribute)
                else function.id
                if isinstance(function, ast.Name)
                else ""
            )
            return name in self._calls
        return False


def _found(file: str, number: int, function: str, node: ast.AST, scope: ast.AST) -> Found:
    operand = _operand(node)
    logits = "" if operand is None else logits_of(operand, scope)
    line = Line(file, number, function, text_of(file, number), logits)
    return Found(line, () if operand is None else made_by(operand, scope))


def _operand(node: ast.AST) -> ast.expr | None:
    """Return what decides whether the result of an operation is finite."""
    match node:
        case ast.BinOp(op=ast.Div(), right=below) | ast.AugAssign(op=ast.Div(), value=below):
            return below
        case ast.BinOp(left=left):
            return left
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch" | "F")), args=[first, *_]):
            return first
        case ast.Call(func=ast.Attribute(value=owner), args=[]):
            return owner
        case _:
            return None


def _users(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the script's own code."""
    while frame is not None:
        if _is_of_user(frame.f_code.co_filename) and not is_ours(frame.f_globals.get("__name__")):
            return frame
        frame = frame.f_back
    return None


def _is_of_user(file: str) -> bool:
    is_installed = file.startswith(("<", *_HERE)) or is_of_package(file)
    return not is_installed and Path(file).suffix == ".py"
