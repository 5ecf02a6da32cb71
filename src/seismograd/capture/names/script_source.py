"""Find statements in the source of the script: the one at a line, the one that creates an object,
the one that calls a loss function, the one that adds a number without a graph to a loss, and the
one that cuts the graph of a forward pass.

Only source text is read, nothing runs; where several statements would do, none is returned.
"""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from seismograd.capture.names.recordable_source import parsed, recordable_statement

MAX_TEXT = 300  # characters that are recorded
EVALUATES = re.compile(r"(^|_)(val|valid|validate|validation|eval|evaluate|test|infer|predict)")
CUTS = ("item", "detach", "numpy", "tolist")
COPIES = ("tensor", "as_tensor", "float", "Tensor")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement: the line at which it begins, and its text as one line."""

    file: str
    line: int
    function: str
    text: str
    node: ast.stmt
    num_loops: int  # around it, within its function
    evaluates: bool  # it stands where nothing is trained
    no_grad: ast.With | None = None  # the block that alone makes it so

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
        if isinstance(s.node, ast.Assign | ast.AnnAssign) and _calls(s.node, (class_name,))
    ]
    around = [s for s in found if s.num_loops and s.line <= near] or [
        s for s in found if s.num_loops
    ]
    for chosen in (around, [s for s in found if s.function], found):
        if len(chosen) == 1:
            return chosen[0]
    return None


def loss_call(file: str, near: int, function: str, module: str) -> Statement | None:
    """Return the statement that calls a loss function, or an instance of the module for it, in
    training: of several the one in the function around the line `near`, before it.
    """
    known = statements(file)
    instances = {
        ast.unparse(target)
        for s in known
        if isinstance(s.node, ast.Assign)
        and isinstance(s.node.value, ast.Call)
        and _name_of(s.node.value.func) == module
        for target in s.node.targets
    }
    found = [s for s in known if not s.evaluates and _calls(s.node, (function,), instances)]
    return _nearest(found, known, near)


def cut_term(file: str, near: int) -> Statement | None:
    """Return the statement that adds a number without a graph to a loss: `loss = a + b.item()`, or
    `b = b.detach()` of what is added. `near` is the line of the backward.
    """
    known = statements(file)
    sums = [(s, list(_operands(s.node))) for s in known if not s.evaluates and _is_loss(s, known)]
    found = [s for s, operands in sums if any(map(_cuts, operands))]
    if not found:
        names = {
            (s.function, part.id)
            for s, operands in sums
            for each in operands
            for part in ast.walk(each)
            if isinstance(part, ast.Name)
        }
        found = [
            s
            for s in known
            if isinstance(s.node, ast.Assign)
            and (_cuts(s.node.value) or s.evaluates)
            and any((s.function, ast.unparse(target)) in names for target in s.node.targets)
        ]
    return _nearest(found, known, near)


def detached(codes: Iterable[CodeType]) -> Statement | None:
    """Return the only statement in these functions that takes what goes on through them out of the
    graph: `h = h.detach()`, a call of `h.detach()` or `h.data`, or a whole block of
    `torch.no_grad()`, on one line.
    """
    inside = [
        s
        for code in codes
        for s in statements(code.co_filename)
        if s.function == code.co_name and s.line in {line for *_, line in code.co_lines()}
    ]
    found = [s for s in inside if _passes_on(s.node) and not s.evaluates]
    blocks = {s.no_grad: s for s in inside if s.no_grad is not None}
    found += [_whole(b, s) for b, s in blocks.items() if _leads_on(b, s, inside)]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=32)
def statements(file: str) -> tuple[Statement, ...]:
    """Return the simple statements of a file in their order; of one that cannot be read, none."""
    tree = parsed("".join(linecache.getlines(file)))
    return () if tree is None else tuple(_below(tree, file, "", 0, evaluates=False))


def _below(
    node: ast.AST,
    file: str,
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
                yield from _below(child, file, child.name, 0, evaluates=inner)
            case ast.For() | ast.While() | ast.AsyncFor():
                yield from _below(
                    child, file, function, num_loops + 1, evaluates=evaluates, no_grad=no_grad
                )
            case ast.With():
                stops = _stops_gradients(child)
                block = child if stops and not evaluates else no_grad
                inner = evaluates or stops
                yield from _below(child, file, function, num_loops, evaluates=inner, no_grad=block)
            case ast.stmt() if _is_simple(child):
                text = _one_line(child, file)
                yield Statement(
                    file, child.lineno, function, text, child, num_loops, evaluates, no_grad
                )
            case ast.stmt() | ast.ExceptHandler() | ast.match_case():
                yield from _below(
                    child, file, function, num_loops, evaluates=evaluates, no_grad=no_grad
                )
            case _:
                pass


def _is_simple(node: ast.stmt) -> bool:
    return not hasattr(node, "body") and not isinstance(node, ast.Match)


def _stops_gradients(node: ast.With) -> bool:
    used = [ast.unparse(item.context_expr) for item in node.items]
    return any("no_grad" in each or "inference_mode" in each for each in used)


def _one_line(node: ast.stmt, file: str) -> str:
    text = recordable_statement(node, "".join(linecache.getlines(file)))
    return text if len(text) <= MAX_TEXT else ""


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _calls(node: ast.stmt, names: tuple[str, ...], instances: Set[str] = frozenset()) -> bool:
    return any(
        isinstance(each, ast.Call)
        and (_name_of(each.func) in names or ast.unparse(each.func) in instances)
        for each in ast.walk(node)
    )


def _operands(node: ast.stmt) -> Iterator[ast.expr]:
    """Yield what a statement adds up."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        yield node.value
    value: ast.AST | None = getattr(node, "value", None)
    stack = [value] if isinstance(node, ast.Assign | ast.AugAssign | ast.Return) else []
    while stack:
        each = stack.pop()
        if isinstance(each, ast.BinOp):
            match each.op:
                case ast.Add() | ast.Sub():
                    yield each.left
                    yield each.right
                    stack += [each.left, each.right]
                case ast.Div():
                    stack.append(each.left)
                case ast.Mult() if isinstance(each.left, ast.Constant):
                    stack.append(each.right)
                case _:
                    pass
        elif isinstance(each, ast.Dict):  # what a step of a framework returns
            stack += each.values
        elif isinstance(each, ast.Tuple):
            stack += each.elts


def _cuts(expression: ast.AST) -> bool:
    """Return whether the value of an operand is taken out of the graph as a whole."""
    match expression:
        case ast.Call(func=ast.Attribute(attr=name)) if name in CUTS:
            return True
        case ast.Call(func=function, args=[ast.Name() | ast.Call() | ast.Attribute(), *_]):
            return _name_of(function) in COPIES
        case ast.Attribute(attr="data"):
            return True
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div(), right=right):
            return _cuts(left) or _cuts(right)
        case ast.UnaryOp(operand=operand):
            return _cuts(operand)
        case _:
            return False


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


def _whole(block: ast.With, part: Statement) -> Statement:
    """Return the block that a statement is in; its text is empty where it cannot be shown."""
    lines = [_one_line(each, part.file) for each in block.body if _is_simple(each)]
    is_shown = len(block.items) == 1 and len(lines) == len(block.body) and all(lines)
    text = f"with {ast.unparse(block.items[0])}: {'; '.join(lines)}" if is_shown else ""
    return Statement(
        part.file, block.lineno, part.function, text, block, part.num_loops, part.evaluates
    )


def _passes_on(node: ast.stmt) -> bool:
    """Return whether a statement names or returns something detached, or what a call makes of
    it.
    """
    match node:
        case ast.Assign(targets=[ast.Name()], value=value) | ast.Return(value=ast.expr() as value):
            calls = [value] if isinstance(value, ast.Call) else []
            given = [each for call in calls for each in call.args]
            return any(map(_detaches, [value, *given]))
        case _:
            return False


def _detaches(expression: ast.expr) -> bool:
    match expression:
        case ast.Call(func=ast.Attribute(attr="detach")) | ast.Attribute(attr="data"):
            return True
        case _:
            return False


def _is_loss(statement: Statement, known: tuple[Statement, ...]) -> bool:
    """Return whether what a statement assigns or returns is backpropagated, and not only logged."""
    node = statement.node
    own = [s.text for s in known if s.function == statement.function]
    if isinstance(node, ast.Return):
        return not any(".backward(" in text for text in own)
    if isinstance(node, ast.Assign | ast.AugAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        name = re.escape(ast.unparse(target))
        leads_on = re.compile(
            rf"(?<![\w.]){name}\)?(?: / [^()]+\))?\.backward\(|backward\({name}\b"
            rf"|^return {name}\b(?! /)"
        )
        return any(map(leads_on.search, own))
    return False


def _nearest(found: list[Statement], known: tuple[Statement, ...], near: int) -> Statement | None:
    """Return the only one; of several the only one in the function around a line, before it."""
    if len(found) > 1:
        around = next((s.function for s in known if s.line == near), "")
        found = [s for s in found if s.function == around and s.line <= near]
    return found[0] if len(found) == 1 else None
