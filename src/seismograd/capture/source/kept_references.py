"""Find the statement that keeps a model's `state_dict()` as it is, for a later load."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from seismograd.capture.source.statements import Statement, statements


@dataclass(frozen=True, slots=True)
class KeptReferences:
    """Where it stands, and its text; `model`: what the script loads it into."""

    place: str
    text: str
    model: str


def kept_references(file: str, line: int) -> KeptReferences | None:
    """Return it for the load at a line: the only one in the file that sets what is loaded, from a
    place that other steps lie behind: another function, or a loop that the load is not in.
    """
    known = statements(file)
    at = [s for s in known if s.line <= line <= (s.node.end_lineno or s.line)]
    call = _load_in(at[-1].node) if at else None
    if call is None:
        return None
    name, loads = _last(call.args[0]), at[-1]
    setting = [s for s in known if name and name in _set_by(s.node)]
    keeping = [s for s in setting if _is_state(s.node)]
    others = [s for s in setting if s not in keeping and not _is_nothing(s.node)]
    if len(keeping) != 1 or others or not _lies_before(keeping[0], loads):
        return None
    model = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else "model"
    return KeptReferences(keeping[0].place, keeping[0].text, model)


def _load_in(node: ast.stmt) -> ast.Call | None:
    for each in ast.walk(node):
        match each:
            case ast.Call(
                func=ast.Attribute(attr="load_state_dict"), args=[ast.Name() | ast.Attribute(), *_]
            ):
                return each
            case _:
                pass
    return None


def _lies_before(keeping: Statement, load: Statement) -> bool:
    return keeping.function != load.function or keeping.num_loops > load.num_loops


def _set_by(node: ast.stmt) -> set[str]:
    """Return the last parts of the names that a statement sets."""
    targets = node.targets if isinstance(node, ast.Assign) else ()
    listed = [e for t in targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return {_last(each) for each in listed}


def _is_state(node: ast.stmt) -> bool:
    """Return whether it sets one name to what `state_dict()` returns."""
    match node:
        case ast.Assign(
            targets=[ast.Name() | ast.Attribute()],
            value=ast.Call(func=ast.Attribute(attr="state_dict"), args=[], keywords=[]),
        ):
            return True
        case _:
            return False


def _is_nothing(node: ast.stmt) -> bool:
    """Return whether it sets names to constants alone, as `None` before the training."""
    value = node.value if isinstance(node, ast.Assign) else None
    values = value.elts if isinstance(value, ast.Tuple) else [value]
    return all(isinstance(each, ast.Constant | ast.UnaryOp) for each in values)


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""
