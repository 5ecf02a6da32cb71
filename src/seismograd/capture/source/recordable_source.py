"""Take from the source of the script what a record may hold: statements and lines without their
comments, and without strings that may be a secret, a path or a person's words.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeGuard

from seismograd.capture.source.shown_sources import source_of
from seismograd.parsed_source import parsed

MASK = "…"
# such as "mean", "cuda:0", "bfloat16" and "best_model.pt"
PLAIN = re.compile(
    r"[a-z_]{0,20}|(cpu|cuda|mps|xpu)(:\d{1,2})?|b?float(16|32|64)|[a-z_]{1,20}\.(pt|pth|ckpt|bin)"
)
# what stands beside a word that is meant for nobody else
SECRET = re.compile(r"pass|secret|token|key|auth|cred|login|pwd", re.IGNORECASE)

Literal = ast.Constant | ast.JoinedStr


def recordable_statement(node: ast.stmt, source: str) -> str:
    """Return the text of a simple statement of this source, as one line."""
    if node.lineno == node.end_lineno and not any(_hidden(node)):
        line = source.split("\n")[node.lineno - 1].encode()
        return line[node.col_offset : node.end_col_offset].decode()
    masked = copy.deepcopy(node)
    return ast.unparse(_Masker(set(map(id, _hidden(masked)))).visit(masked))


def recordable_line(file: str, number: int) -> str:
    """Return a line of a file, which may be a part of a statement; empty where it cannot be told
    what is a string there.
    """
    source = source_of(file)
    tree = parsed(source)
    around = [] if tree is None else [each for each in ast.walk(tree) if _is_at(each, number)]
    statements = [each for each in around if isinstance(each, ast.stmt)]
    if not statements:
        return ""
    inside = {id(part) for each in around if isinstance(each, ast.JoinedStr) for part in _in(each)}
    strings = [each for each in around if _is_string(each) and id(each) not in inside]
    if any(each.lineno != each.end_lineno for each in strings):
        return ""
    line = source.split("\n")[number - 1].encode()
    innermost = min(statements, key=lambda each: (each.end_lineno or 0) - each.lineno)
    hidden = set(map(id, _hidden(innermost)))
    for each in sorted(strings, key=lambda each: -each.col_offset):
        if id(each) in hidden:
            line = line[: each.col_offset] + f"'{MASK}'".encode() + line[each.end_col_offset :]
    return line.decode(errors="replace").partition("#")[0].strip()


@lru_cache(maxsize=32)
def _is_at(node: ast.AST, number: int) -> bool:
    first = getattr(node, "lineno", None)
    return first is not None and first <= number <= (getattr(node, "end_lineno", None) or first)


def _is_string(node: ast.AST) -> TypeGuard[Literal]:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def _in(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is below a node."""
    for child in ast.iter_child_nodes(node):
        yield from ast.walk(child)


def _hidden(node: ast.AST) -> Iterator[Literal]:
    """Yield the strings in a node that are not recorded."""
    parts = list(ast.walk(node))
    is_beside_secret = any(SECRET.search(name) for part in parts for name in _names(part))
    for part in parts:
        match part:
            case ast.JoinedStr() | ast.Constant(value=bytes()):
                yield part
            case ast.Constant(value=str(text)) if is_beside_secret or not PLAIN.fullmatch(text):
                yield part
            case _:
                pass


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
            yield name
        case ast.Constant(value=str(name)):
            yield name
        case _:
            pass


class _Masker(ast.NodeTransformer):
    def __init__(self, hidden: set[int]) -> None:
        self._hidden = hidden

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(MASK) if id(node) in self._hidden else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant(MASK) if id(node) in self._hidden else node
