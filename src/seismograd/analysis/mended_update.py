"""Write a statement that changes no weights as it should read."""

from __future__ import annotations

import ast

from seismograd.parsed_source import parsed


def mended_update(text: str, statement: str, target: str) -> str:
    """Return the statement that copies or averages weights so that it writes to them. `statement`
    and `target` are those of a fact of kind `STALE_COPY`.
    """
    tree = parsed(text)
    node = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    match statement, node:
        case "update", ast.Expr(value=ast.Call(args=[given])):
            return f"{target}.load_state_dict({ast.unparse(given)})"
        case "entry", ast.Assign(targets=[entry], value=value):
            return f"{ast.unparse(entry)}.copy_({ast.unparse(value)})"
        case "variable", ast.Assign(targets=[ast.Name(id=name)], value=value):
            return f"{name}.data.copy_({ast.unparse(value)})"
        case "dict", _:
            name, _, owner = target.partition(" ")
            return f"{owner}.load_state_dict({name})  # after the loop that sets the entries"
        case "result", ast.Expr(value=ast.Call() as call):
            return _in_place(call)
        case _:
            return "target.load_state_dict(model.state_dict())"


def _in_place(call: ast.Call) -> str:
    """Return a chain of calls with an underscore where the first method computes something."""
    first: ast.Attribute | None = None
    node: ast.expr = call
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = node.func if node.func.attr != "detach" else first
            node = node.func.value
        else:
            return ""
    if first is None:
        return ""
    first.attr += "_"
    return ast.unparse(call)


def in_float32(text: str) -> str:
    """Return the statement that averages, and what makes the average exact enough."""
    made = "average = copy.deepcopy(model).float()  # float32, and all that is added to it"
    return f"{made}\n{text}" if text else made
