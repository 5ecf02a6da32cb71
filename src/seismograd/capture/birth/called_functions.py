"""Functions as their source shows them, and which of them an expression calls."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch

from seismograd.parsed_source import parsed


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function or a module, without functions and classes within."""
    stack = list(ast.iter_child_nodes(scope))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            stack.extend(ast.iter_child_nodes(node))


def called(function: ast.expr, names: dict[str, Any]) -> Iterator[tuple[FunctionType, Any]]:
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


def function_of(code: CodeType) -> ast.AST | None:
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


def functions_in(file: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield all functions of a file."""
    tree = parsed("".join(linecache.getlines(file)))
    for node in () if tree is None else ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
