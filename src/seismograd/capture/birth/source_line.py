"""Find the line of the script that an operation stands in, by reading the source around a call
that is still running.
"""

from __future__ import annotations

import ast
import linecache
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

import torch

from seismograd.capture.source.recordable_source import recordable_line
from seismograd.exception_origin import is_ours
from seismograd.parsed_source import parsed

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
    """A line of the script."""

    file: str
    number: int
    function: str
    text: str


def line_of_operation(
    operation: str, frame: FrameType | None, without: frozenset[CodeType] = frozenset()
) -> Line | None:
    """Return the only line that has this operation, of the function that a frame runs, before the
    line it is at, and of what that calls; where there is none, as when a framework calls the
    script's functions, the only line of all functions in its file. `None` where there are several.
    The functions `without` are left out.
    """
    caller = _users(frame)
    if caller is None:
        return None
    scope = _function(caller.f_code)
    if scope is None:
        return None
    search = _SourceSearch(operation, without)
    search.within(scope, caller.f_code, caller, before=caller.f_lineno)
    lines = list(dict.fromkeys(search.found)) or search.in_functions_of(caller.f_code.co_filename)
    return lines[0] if len(lines) == 1 else None


def text_of(file: str, number: int) -> str:
    """Return what may be recorded of a line of a file, without its indentation; empty for none."""
    return recordable_line(file, number)[:MAX_LINE]


def code_below(model: torch.nn.Module) -> set[CodeType]:
    """Return the code of the forward passes of a model and of the modules below it."""
    forwards: list[Any] = [type(module).forward for module in model.modules()]
    return {each.__code__ for each in forwards if isinstance(each, FunctionType)}


class _SourceSearch:
    def __init__(self, operation: str, without: frozenset[CodeType]) -> None:
        self._operator = OPERATORS.get(operation)
        self._calls = CALLS.get(operation, (operation, f"{operation}_"))
        self._reached = set(without)
        self.found: list[Line] = []

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
        for node in _own(scope):
            number = getattr(node, "lineno", None)
            if number is None or (before is not None and number > before):
                continue
            if self._is_it(node):
                self.found.append(
                    Line(
                        code.co_filename,
                        number,
                        code.co_qualname,
                        text_of(code.co_filename, number),
                    )
                )
            elif isinstance(node, ast.Call) and depth < MAX_DEPTH:
                self._into(node, known or {}, depth)

    def in_functions_of(self, file: str) -> list[Line]:
        """Return the lines of all functions of a file, but of those that were left out."""
        left_out = {(code.co_filename, code.co_name) for code in self._reached}
        return [
            Line(file, node.lineno, scope.name, text_of(file, node.lineno))
            for scope in _functions(file)
            if (file, scope.name) not in left_out
            for node in _own(scope)
            if isinstance(node, ast.expr | ast.stmt) and self._is_it(node)
        ]

    def _into(self, call: ast.Call, names: dict[str, Any], depth: int) -> None:
        for function, owner in _called(call.func, names):
            inner = function.__code__
            if inner in self._reached or not _is_of_user(inner.co_filename):
                continue
            scope = _function(inner)
            if scope is not None:
                self.within(
                    scope, inner, None, None, {**function.__globals__, "self": owner}, depth + 1
                )

    def _is_it(self, node: ast.AST) -> bool:
        if isinstance(node, ast.BinOp | ast.AugAssign):
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


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function or a module, without functions and classes within."""
    stack = list(ast.iter_child_nodes(scope))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            stack.extend(ast.iter_child_nodes(node))


def _called(function: ast.expr, names: dict[str, Any]) -> Iterator[tuple[FunctionType, Any]]:
    """Yield the functions that an expression may call: a function by its name, a method, the
    forward of a module; of a container's modules all.
    """
    value = _value(function, names)
    if isinstance(value, torch.nn.Module):
        if type(value).forward.__module__.startswith("torch."):
            for child in value.children():
                forward = type(child).forward
                if isinstance(forward, FunctionType):
                    yield forward, child
        elif isinstance(type(value).forward, FunctionType):
            yield type(value).forward, value
    elif isinstance(value, MethodType) and isinstance(value.__func__, FunctionType):
        yield value.__func__, value.__self__
    elif isinstance(value, FunctionType):
        yield value, None


def _value(expression: ast.expr, names: dict[str, Any]) -> Any:
    """Return what an expression of names and attributes stands for, without running anything of
    the script's: attributes are read from where objects keep them.
    """
    if isinstance(expression, ast.Name):
        return names.get(expression.id)
    if not isinstance(expression, ast.Attribute):
        return None
    owner = _value(expression.value, names)
    name = expression.attr
    if isinstance(owner, torch.nn.Module) and name in owner._modules:  # pyright: ignore[reportPrivateUsage]
        return owner._modules[name]  # pyright: ignore[reportPrivateUsage]
    kept: Any = getattr(owner, "__dict__", {})
    if name in kept:
        return kept[name]
    for each in type(owner).__mro__:
        if isinstance(vars(each).get(name), FunctionType):
            return MethodType(vars(each)[name], owner)
    return None


def _function(code: CodeType) -> ast.AST | None:
    """Return the syntax tree of a function, or of the module that the code is."""
    tree = parsed("".join(linecache.getlines(code.co_filename)))
    if tree is None or not tree.body:
        return None
    if code.co_name == "<module>":
        return tree
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == code.co_name
            and code.co_firstlineno in (node.lineno, *(each.lineno for each in node.decorator_list))
        ):
            return node
    return None


def _functions(file: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = parsed("".join(linecache.getlines(file)))
    for node in () if tree is None else ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _users(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the script's own code."""
    while frame is not None:
        if _is_of_user(frame.f_code.co_filename) and not is_ours(frame.f_globals.get("__name__")):
            return frame
        frame = frame.f_back
    return None


def _is_of_user(file: str) -> bool:
    return not file.startswith(("<", *_HERE)) and Path(file).suffix == ".py"
