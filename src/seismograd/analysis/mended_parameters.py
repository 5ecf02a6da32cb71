"""Write the statement that creates an optimizer with more parameters in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from seismograd.analysis.mended_argument import HIDDEN, calls_of
from seismograd.analysis.parameter_cover import Piece, cover
from seismograd.parsed_source import parsed
from seismograd.schema import Parameter

MOST = 6  # modules and parameters that a statement may name one by one
ITERABLES = ("parameters", "filter", "list", "chain")  # calls whose elements are parameters


def with_parameters(text: str, call: str, pieces: Sequence[Piece]) -> str:
    """Return the statement with these parameters added to what the only call of `call` is given;
    empty where the record does not hold the whole statement, or it does not show whether it is
    given parameters or groups of them.
    """
    tree = parsed(text)
    found = [] if tree is None else calls_of(tree, call)
    if tree is None or len(found) != 1 or HIDDEN in text or not 0 < len(pieces) <= MOST:
        return ""
    given = _given(found[0])
    more = "" if given is None else _extended(given, pieces)
    if given is None or not more:
        return ""
    # Only this argument is written anew: the rest stays as its author wrote it.
    begin, end = given.col_offset, given.end_col_offset or 0
    line = text.encode()
    return (line[:begin] + more.encode() + line[end:]).decode() if "\n" not in text else ""


def pieces_of(
    text: str, call: str, strays: Sequence[Parameter], known: Sequence[Parameter], optimizer: int
) -> list[Piece]:
    """Return expressions for parameters as the statement that creates an optimizer would write
    them; nothing where it does not show what it calls their model.
    """
    roots = _roots(text, call, [each for each in known if each.optimizer == optimizer])
    found: list[Piece] = []
    for root in dict.fromkeys(each.root for each in strays):
        of_root = [each for each in strays if each.root == root]
        name = roots.get(root, "")
        if not name and all(_names_alike(known, *pair) for pair in roots.items()):
            name = of_root[0].model  # a name of the same scope
        if not name:
            return []
        found += cover(of_root, known, name)
    return found


def names_model(text: str, call: str, model: str) -> bool:
    """Return whether the statement that creates an optimizer calls a model as other parts of the
    script do: not where a function that makes optimizers has a name of its own for it.
    """
    tree = parsed(text)
    found = [] if tree is None else calls_of(tree, call)
    given = _given(found[0]) if len(found) == 1 else None
    last = model.rpartition(".")[2]
    return any(last in chain or chain[0] == "self" for chain in _chains(given))


def target_of(text: str) -> str:
    """Return the variable that a statement assigns to; empty where it is none."""
    match = re.match(r"([\w.]+) = ", text)
    return match[1] if match else ""


def _names_alike(known: Iterable[Parameter], root: int, name: str) -> bool:
    """Return whether a model's name in the statement is the one that it is known by."""
    return all(each.model == name for each in known if each.root == root and each.model)


def _roots(text: str, call: str, held: Sequence[Parameter]) -> dict[int, str]:
    """Return what the statement calls the models, by the modules of them that it gives the call:
    `self.model` by `self.model.head.parameters()` where the optimizer holds `head.weight`.
    """
    tree = parsed(text)
    found = [] if tree is None else calls_of(tree, call)
    given = _given(found[0]) if len(found) == 1 else None
    roots: dict[int, str] = {}
    for chain in _chains(given):
        for each in held:
            if each.root < 0:
                continue
            at = _root_length(chain, each)
            if at and each.root not in roots:
                roots[each.root] = ".".join(chain[:at])
    if not roots:  # no part of a model is named, so these are whole ones
        whole = list(dict.fromkeys(".".join(chain) for chain in _chains(given)))
        of = list(dict.fromkeys(each.root for each in held if each.root >= 0))
        if len(whole) == 1 and len(of) == 1:
            return {of[0]: whole[0]}
        names = {each.model: each.root for each in held if each.root >= 0}
        return {names[name]: name for name in whole if name in names}
    return roots


def _root_length(chain: Sequence[str], parameter: Parameter) -> int:
    """Return how many parts of a chain of names are the model, where the others lead to one of its
    parameters; 0: they do not.
    """
    paths = (parameter.name, parameter.name.removeprefix(f"{parameter.model}."))
    for at in range(1, len(chain)):
        rest = ".".join(chain[at:])
        if any(path == rest or path.startswith(f"{rest}.") for path in paths):
            return at
    return 0


def _chains(given: ast.expr | None) -> Iterator[list[str]]:
    """Yield what the parameters are taken from, part by part: `self`, `model`, `head`; of a slice
    of a model the model.
    """
    for node in () if given is None else ast.walk(given):
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr="parameters" | "named_parameters")):
                parts = _parts(owner)
            case ast.Attribute(attr="weight" | "bias"):
                parts = _parts(node)
            case _:
                continue
        if parts:
            yield parts


def _parts(node: ast.expr) -> list[str]:
    match node:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=owner, attr=name):
            before = _parts(owner)
            return [*before, name] if before else []
        case ast.Subscript(value=owner, slice=ast.Constant(value=int() as number)):
            before = _parts(owner)
            return [*before, str(number)] if before else []
        case ast.Subscript(value=owner, slice=ast.Slice()):
            return _parts(owner)
        case _:
            return []


def _given(call: ast.Call) -> ast.expr | None:
    """Return the parameters that an optimizer is given."""
    if call.args:
        return call.args[0]
    return next((each.value for each in call.keywords if each.arg == "params"), None)


def _extended(given: ast.expr, pieces: Sequence[Piece]) -> str:
    """Return the argument with these parameters; empty where it does not show what it holds."""
    text, starred = ast.unparse(given), ", ".join(each.starred for each in pieces)
    match given:
        case ast.List(elts=[ast.Dict(), *_]):
            groups = [f'{{"params": {each.listed}}}' for each in pieces]
            return f"[{', '.join([*map(ast.unparse, given.elts), *groups])}]"
        case ast.List(elts=[_, *_]):
            return f"[{', '.join(map(ast.unparse, given.elts))}, {starred}]"
        case ast.BinOp(op=ast.Add()):
            return " + ".join([text, *(_as_list(each) for each in pieces)])
        case ast.ListComp(elt=elt) | ast.GeneratorExp(elt=elt) if not isinstance(elt, ast.Dict):
            return f"[*{text}, {starred}]"
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if (
            name in ITERABLES and "named_" not in text and not _of_variable(given)
        ):
            return f"[*{text}, {starred}]"
        case _:
            return ""


def _as_list(piece: Piece) -> str:
    return f"list({piece.listed})" if piece.is_module else piece.listed


def _of_variable(given: ast.Call) -> bool:
    """Return whether it goes through a variable, which may hold groups: `list(groups)`."""
    is_filter = isinstance(given.func, ast.Name) and given.func.id == "filter"
    return any(isinstance(each, ast.Name) for each in given.args[is_filter:])
