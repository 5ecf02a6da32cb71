"""Find the statement that takes a loss, or a term of it, out of the graph."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from seismograd.capture.source.detaching_statement import whole_block
from seismograd.capture.source.statements import Statement, name_of, nearest, statements

CUTS = ("item", "detach", "numpy", "tolist")
LOSS_STEPS = ("training_step", "compute_loss")  # methods whose result a framework backpropagates
SUMS = ("sum", "mean")  # of a list or of what is stacked
COPIES = ("tensor", "as_tensor", "float", "Tensor")


def cut_term(file: str, near: int, *, certain: bool = False) -> Statement | None:
    """Return the statement that adds a number without a graph to a loss: `loss = a + b.item()`, or
    `b = b.detach()` of what is added, or the block of `torch.no_grad()` that computes it. `near` is
    the line of the backward; `certain`: only what is added, not what is subtracted, as a baseline
    is.
    """
    known = statements(file)
    used, reached = (_losses(known), _reached(known, near)) if certain else (set[str](), set[str]())
    sums = [
        (s, [each for each, is_added in _operands(s.node) if is_added or not certain])
        for s in known
        if not s.evaluates
        and _is_loss(s, known)
        and not (certain and s.function not in reached)
        and not (certain and isinstance(s.node, ast.Return) and s.function not in used)
    ]
    found = [s for s, operands in sums if any(map(_cuts, operands))]
    if not found:
        names = {
            (s.function, part.id)
            for s, operands in sums
            for each in operands
            for part in ([_unweighted(each)] if certain else ast.walk(each))
            if isinstance(part, ast.Name)
        }
        found = [
            s
            for s in known
            if isinstance(s.node, ast.Assign)
            and (_cuts(s.node.value) or s.evaluates)
            and any((s.function, ast.unparse(target)) in names for target in s.node.targets)
        ]
    found = found or _first_order(known, sums)
    found = [s for s in found if not (certain and s.evaluates and s.no_grad is None)]
    only = nearest(found, known, near)
    return only if only is None or only.no_grad is None else whole_block(only.no_grad, only)


def cut_loss(file: str, near: int) -> Statement | None:
    """Return the statement that makes what is backpropagated a tensor without a history:
    `loss = torch.tensor(loss.item(), requires_grad=True)`. `near` is the line of the step.
    """
    known = statements(file)
    found = [
        s
        for s in known
        if isinstance(s.node, ast.Assign)
        and not s.evaluates
        and _cuts(s.node.value)
        and _is_loss(s, known)
    ]
    return nearest(found, known, near)


def _first_order(
    known: tuple[Statement, ...], sums: list[tuple[Statement, list[ast.expr]]]
) -> list[Statement]:
    """Return the calls of `torch.autograd.grad` without `create_graph=True` in the functions that
    compute what is added, such as a gradient penalty: their result has no graph.
    """
    names = {
        (s.function, part.id)
        for s, operands in sums
        for each in operands
        for part in ast.walk(each)
        if isinstance(part, ast.Name)
    }
    computing = [
        s.node
        for s in known
        if isinstance(s.node, ast.Assign)
        and any((s.function, ast.unparse(target)) in names for target in s.node.targets)
    ]
    called = {name for node in [*computing, *(s.node for s, _ in sums)] for name in _called(node)}
    inside = called | {s.function for s, _ in sums}
    return [s for s in known if s.function in inside and _is_first_order(s.node)]


def _is_first_order(node: ast.stmt) -> bool:
    for each in ast.walk(node):
        match each:
            case ast.Call(func=ast.Attribute(value=owner, attr="grad"), keywords=keywords) if (
                ast.unparse(owner).endswith("autograd")
            ):
                return not any(
                    keyword.arg in ("create_graph", None)
                    and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
                    for keyword in keywords
                )
            case _:
                pass
    return False


def _operands(node: ast.stmt) -> Iterator[tuple[ast.expr, bool]]:
    """Yield what a statement adds up, and whether it is added: else it is subtracted."""
    value: ast.AST | None = getattr(node, "value", None)
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        yield node.value, isinstance(node.op, ast.Add)
    stack: list[tuple[ast.AST | None, bool]] = []
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Return):
        stack.append((value, True))
    while stack:
        each, is_added = stack.pop()
        match each:
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                sides = (left, is_added), (right, is_added == isinstance(op, ast.Add))
                yield from sides
                stack += sides
            case ast.BinOp(left=left, op=ast.Div()):
                stack.append((left, is_added))
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                stack += [(right, is_added)] * _weighs(left, right)
                stack += [(left, is_added)] * _weighs(right, left)
            case ast.Dict(values=values) | ast.Tuple(elts=values):  # a framework's step returns it
                stack += [(value, is_added) for value in values]
            case ast.Call(args=[*given], func=function) if name_of(function) in SUMS:
                terms = _listed(given[0] if given else getattr(function, "value", None))
                yield from ((term, is_added) for term in terms)
                stack += [(term, is_added) for term in terms]
            case _:
                pass


def _is_weight(expression: ast.expr) -> bool:
    """Return whether it may be the weight of a term: a number or a name for one."""
    return isinstance(expression, ast.Constant | ast.Name | ast.Attribute | ast.Subscript)


def _weighs(weight: ast.expr, sum_: ast.expr) -> bool:
    """Return whether an expression is a sum of terms, multiplied by a weight: `a * (1 + b)` is a
    term `a` with a weight that is a sum.
    """
    match sum_:
        case ast.BinOp(left=ast.Constant(), op=ast.Add() | ast.Sub()):
            return isinstance(weight, ast.Constant)
        case ast.BinOp(right=ast.Constant(), op=ast.Add() | ast.Sub()):
            return isinstance(weight, ast.Constant)
        case _:
            return _is_weight(weight)


def _unweighted(term: ast.expr) -> ast.expr:
    """Return a term without the number that it is multiplied or divided by."""
    match term:
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if _is_weight(left):
            return _unweighted(right)
        case ast.BinOp(left=left, op=ast.Div()):
            return _unweighted(left)
        case _:
            return term


def _listed(given: ast.AST | None) -> list[ast.expr]:
    """Return the terms in `[a, b]`, and in `torch.stack([a, b])`."""
    match given:
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return elements
        case ast.Call(func=function, args=[inner, *_]) if name_of(function) in ("stack", "cat"):
            return _listed(inner)
        case _:
            return []


def _cuts(expression: ast.AST) -> bool:
    """Return whether the value of an operand is taken out of the graph as a whole."""
    match expression:
        case ast.Call(func=ast.Attribute(attr=name)) if name in CUTS:
            return True
        case ast.Call(func=function, args=[ast.Name() | ast.Call() | ast.Attribute(), *_]):
            return name_of(function) in COPIES
        case ast.Attribute(attr="data"):
            return True
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            # the weight stands first: of alpha.item() * kl nothing is known
            return _cuts(right) or (_cuts(left) and isinstance(right, ast.Constant))
        case ast.BinOp(left=left, op=ast.Div()):
            return _cuts(left)
        case ast.UnaryOp(operand=operand):
            return _cuts(operand)
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


def _reached(known: tuple[Statement, ...], near: int) -> set[str]:
    """Return the function around a line, those that it calls, and those that these call."""
    reached = {next((s.function for s in known if s.line == near), "")}
    for _ in range(2):
        nodes = [s.node for s in known if s.function in reached]
        reached |= {name for node in nodes for name in _called(node)}
    return reached | set(LOSS_STEPS)


def _called(node: ast.stmt) -> set[str]:
    return {name_of(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}


def _losses(known: tuple[Statement, ...]) -> set[str]:
    """Return the functions whose result is backpropagated: a loss, and no layer of a model."""
    called = {
        name
        for s in known
        if ".backward(" in s.text or (not isinstance(s.node, ast.Return) and _is_loss(s, known))
        for name in _called(s.node)
    }
    return called | set(LOSS_STEPS)
