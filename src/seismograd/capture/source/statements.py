"""Read the statements of the script from its source: all of a file, the one at a line, and the one
that creates an object.

Only source text is read, nothing runs; where several statements would do, none is returned.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from seismograd.capture.source.recordable_source import recordable_statement
from seismograd.capture.source.shown_sources import source_of
from seismograd.parsed_source import parsed

MAX_TEXT = 300  # characters that are recorded
EVALUATES = re.compile(r"(^|_)(val|valid|validate|validation|eval|evaluate|test|infer|predict)")


@dataclass(frozen=True)
class Statement:
    """A statement of this source of a file: the line at which it begins, and its text as one
    line.
    """

    file: str
    line: int
    function: str
    source: str = field(repr=False)
    node: ast.stmt
    num_loops: int  # around it, within its function
    evaluates: bool  # it stands where nothing is trained
    no_grad: ast.With | None = None  # the block that alone makes it so
    made_text: str | None = None  # what stands for it where it is not to be shown whole

    @cached_property  # few of a file's are ever shown
    def text(self) -> str:
        """Return what may be recorded of it, empty where that is too long."""
        return one_line(self.node, self.source) if self.made_text is None else self.made_text

    @property
    def place(self) -> str:
        """Return the line as findings name it."""
        return f"{self.file}:{self.line}"


def statement_at(file: str, line: int) -> str:
    """Return the text of the statement at a line, empty where there is none."""
    found = [s for s in statements(file) if s.line <= line <= (s.node.end_lineno or s.line)]
    return found[-1].text if found else ""


def creation(file: str, class_name: str, near: int) -> Statement | None:
    """Return the statement that creates an object of a class and is repeated: in a loop, or in a
    function; where there is none such, the only one that creates it.
    """
    found = [
        s
        for s in statements(file)
        if isinstance(s.node, ast.Assign | ast.AnnAssign) and calls(s.node, (class_name,))
    ]
    around = [s for s in found if s.num_loops and s.line <= near] or [
        s for s in found if s.num_loops
    ]
    for chosen in (around, [s for s in found if s.function], found):
        if len(chosen) == 1:
            return chosen[0]
    return None


def nearest(found: list[Statement], known: tuple[Statement, ...], near: int) -> Statement | None:
    """Return the only one; of several the only one in the function around a line, before it."""
    if len(found) > 1:
        around = next((s.function for s in known if s.line == near), "")
        found = [s for s in found if s.function == around and s.line <= near]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=32)
def statements(file: str) -> tuple[Statement, ...]:
    """Return the simple statements of a file in their order; of one that cannot be read, none."""
    source = source_of(file)
    tree = parsed(source)
    return () if tree is None else tuple(_below(tree, file, source, "", 0, evaluates=False))


def _below(
    node: ast.AST,
    file: str,
    source: str,
    function: str,
    num_loops: int,
    *,
    evaluates: bool,
    no_grad: ast.With | None = None,
) -> Iterator[Statement]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                decorated = any("no_grad" in ast.unparse(each) for each in child.decorator_list)
                inner = decorated or bool(EVALUATES.search(child.name))
                yield from _below(child, file, source, child.name, 0, evaluates=inner)
            case ast.For() | ast.While() | ast.AsyncFor():
                yield from _below(
                    child,
                    file,
                    source,
                    function,
                    num_loops + 1,
                    evaluates=evaluates,
                    no_grad=no_grad,
                )
            case ast.With():
                stops = _stops_gradients(child)
                block = child if stops and not evaluates else no_grad
                inner = evaluates or stops
                yield from _below(
                    child, file, source, function, num_loops, evaluates=inner, no_grad=block
                )
            case ast.stmt() if is_simple(child):
                yield Statement(
                    file, child.lineno, function, source, child, num_loops, evaluates, no_grad
                )
            case ast.stmt() | ast.ExceptHandler() | ast.match_case():
                yield from _below(
                    child, file, source, function, num_loops, evaluates=evaluates, no_grad=no_grad
                )
            case _:
                pass


def is_simple(node: ast.stmt) -> bool:
    """Return whether no other statements are inside this one."""
    return not hasattr(node, "body") and not isinstance(node, ast.Match)


def _stops_gradients(node: ast.With) -> bool:
    used = [ast.unparse(item.context_expr) for item in node.items]
    return any("no_grad" in each or "inference_mode" in each for each in used)


def one_line(node: ast.stmt, source: str) -> str:
    """Return the text of a statement that may be recorded; empty where it is too long."""
    text = recordable_statement(node, source)
    return text if len(text) <= MAX_TEXT else ""


def name_of(function: ast.expr) -> str:
    """Return the last part of the name of what is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def calls(node: ast.stmt, names: tuple[str, ...], instances: Set[str] = frozenset()) -> bool:
    """Return whether a statement calls one of these names, or one of these objects."""
    return any(
        isinstance(each, ast.Call)
        and (name_of(each.func) in names or ast.unparse(each.func) in instances)
        for each in ast.walk(node)
    )
