"""Find the statement that cuts the graph of a forward pass."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from types import CodeType

from seismograd.capture.source.shown_sources import source_of
from seismograd.capture.source.statements import (
    Statement,
    is_simple,
    name_of,
    one_line,
    statements,
)
from seismograd.parsed_source import parsed


def detached(codes: Iterable[CodeType]) -> Statement | None:
    """Return the only statement in these functions that takes what goes on through them out of the
    graph: `h = h.detach()`, a call of `h.detach()` or `h.data`, a copy by NumPy or `torch.tensor`,
    a whole block of `torch.no_grad()`, on one line, or a function that they call and that has it as
    its decorator.
    """
    codes = list(codes)
    inside = [
        s
        for code in codes
        for s in statements(code.co_filename)
        if s.function == code.co_name and s.line in {line for *_, line in code.co_lines()}
    ]
    found = [s for s in inside if (_passes_on(s.node) or _copies(s, inside)) and not s.evaluates]
    blocks = {s.no_grad: s for s in inside if s.no_grad is not None}
    found += [whole_block(b, s) for b, s in blocks.items() if _leads_on(b, s, inside)]
    found += _decorated({code.co_filename for code in codes}, inside)
    return found[0] if len(found) == 1 else None


def _decorated(files: Iterable[str], inside: list[Statement]) -> list[Statement]:
    """Return the decorators `torch.no_grad()` of functions whose result these statements use."""
    used = {
        name_of(each.func)
        for s in inside
        if isinstance(s.node, ast.Assign | ast.Return)
        for each in ast.walk(s.node)
        if isinstance(each, ast.Call)
    }
    sources = [(file, source_of(file)) for file in files]
    trees = [(file, source, parsed(source)) for file, source in sources]
    return [
        Statement(
            file,
            each.lineno,
            node.name,
            source,
            node,
            0,
            evaluates=True,
            made_text=f"@{ast.unparse(each)}",
        )
        for file, source, tree in trees
        if tree is not None
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in used
        for each in node.decorator_list
        if "no_grad" in ast.unparse(each) or "inference_mode" in ast.unparse(each)
    ]


def _leads_on(block: ast.With, part: Statement, known: list[Statement]) -> bool:
    """Return whether nothing but what a block makes of its inputs goes on after it."""
    if any(isinstance(each, ast.Return) for each in block.body):
        return True
    made, read = _names(block, ast.Store), _names(block, ast.Load)
    end = block.end_lineno or block.lineno
    later = [s.node for s in known if s.function == part.function and s.line > end]
    used = {name for node in later for name in _names(node, ast.Load)}
    return bool(made & used) and not (read - made) & used - {"self", "torch", "nn", "F"}


def _names(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    parts = ast.walk(node)
    return {each.id for each in parts if isinstance(each, ast.Name) and type(each.ctx) is context}


def whole_block(block: ast.With, part: Statement) -> Statement:
    """Return the block that a statement is in; its text is empty where it cannot be shown."""
    lines = [one_line(each, part.source) for each in block.body if is_simple(each)]
    is_shown = len(block.items) == 1 and len(lines) == len(block.body) and all(lines)
    text = f"with {ast.unparse(block.items[0])}: {'; '.join(lines)}" if is_shown else ""
    return Statement(
        part.file,
        block.lineno,
        part.function,
        part.source,
        block,
        part.num_loops,
        part.evaluates,
        made_text=text,
    )


def _passes_on(node: ast.stmt) -> bool:
    """Return whether a statement names or returns something detached, or what a call makes of
    it.
    """
    match node:
        case ast.Assign(targets=[ast.Name()], value=value) | ast.Return(value=ast.expr() as value):
            calls = [value] if isinstance(value, ast.Call) else []
            given = [each for call in calls for each in call.args]
            return any(map(detaches, [value, *given]))
        case _:
            return False


def _copies(statement: Statement, inside: list[Statement]) -> bool:
    """Return whether a statement makes a new tensor of what a layer has returned: of a list of
    numbers, `torch.tensor` makes one that cuts nothing.
    """
    match statement.node:
        case ast.Assign(value=ast.Call(func=function, args=[ast.Name(id=given), *_])):
            before = [s for s in inside if s.function == statement.function]
            made = [s for s in before if s.line < statement.line]
            made = [s for s in made if given in _names(s.node, ast.Store)]
            is_layer = any(re.search(r"\bself\.\w+\(", s.text) for s in made)
            return name_of(function) in ("tensor", "as_tensor", "from_numpy") and is_layer
        case _:
            return False


def detaches(expression: ast.expr) -> bool:
    """Return whether an expression gives something without its graph."""
    match expression:
        case ast.Call(func=ast.Attribute(attr="detach" | "numpy" | "item" | "tolist")):
            return True
        case ast.Call(func=ast.Attribute(value=owner)):  # h.detach().clone()
            return detaches(owner)
        case ast.Attribute(attr="data"):
            return True
        case _:
            return False
