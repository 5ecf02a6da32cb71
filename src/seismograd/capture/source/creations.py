"""Find where the script creates an optimizer, and where its learning rate stands."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from seismograd.capture.source.statements import Statement, calls, name_of, statements

SETTINGS = ("Arguments", "Config")  # how classes of settings that hold a learning rate are called


@dataclass(frozen=True, slots=True)
class Creation:
    """The statement, and which call in it is given the learning rate by which argument."""

    statement: Statement
    call: str
    argument: str


def optimizer_creation(
    files: Iterable[str], class_name: str, name: str, function: str
) -> Creation | None:
    """Return where an optimizer of a class is created that the script calls `name` and steps in a
    function: in the first of these files that creates any; of several, those that are assigned to
    that name, and the only one of these in the function. Where none creates it, the settings
    that a framework makes it from.
    """
    for file in files:
        known = statements(file)
        found = [s for s in known if calls(s.node, (class_name,))]
        if found:
            only = _only(found, name, _own(function))
            return None if only is None else Creation(only, class_name, "lr")
        settings = [(s, each) for s in known for each in _settings(s.node)]
        if len(settings) == 1:
            return Creation(*settings[0], "learning_rate")
    return None


def rate_setter(file: str, function: str) -> Statement | None:
    """Return the only statement that writes the learning rate of a parameter group in a function of
    this file, or in those that it calls.
    """
    known, own = statements(file), _own(function)
    called = {
        name_of(each.func)
        for s in known
        if s.function == own
        for each in ast.walk(s.node)
        if isinstance(each, ast.Call)
    }
    found = [s for s in known if s.function in (own, *called) and _sets_rate(s.node)]
    return found[0] if len(found) == 1 else None


def layer_creation(file: str, class_name: str, name: str) -> Statement | None:
    """Return the only statement that makes a layer of a class and gives it a name: that of its
    path, such as `rnn` of `encoder.rnn`.
    """
    own = name.rpartition(".")[2]
    found = [
        s for s in statements(file) if calls(s.node, (class_name,)) and own in _targets(s.node)
    ]
    return found[0] if len(found) == 1 else None


def interval_setter(file: str) -> Statement | None:
    """Return the only statement of a file that tells a framework how often to step a scheduler, by
    the key `interval`.
    """
    found = [s for s in statements(file) if _sets_interval(s.node)]
    return found[0] if len(found) == 1 else None


def _sets_interval(node: ast.stmt) -> bool:
    keys = [key for each in ast.walk(node) if isinstance(each, ast.Dict) for key in each.keys]
    return any(isinstance(key, ast.Constant) and key.value == "interval" for key in keys)


def _own(function: str) -> str:
    """Return the name of a function as statements have it, of its qualified name."""
    return function.rpartition(".")[2].replace("<module>", "")


def _only(found: list[Statement], name: str, function: str) -> Statement | None:
    if len(found) > 1:
        variable = name.partition("[")[0].rpartition(".")[2]
        found = [s for s in found if variable in _targets(s.node)] or found
    if len(found) > 1:
        found = [s for s in found if s.function == function]
    return found[0] if len(found) == 1 else None


def _targets(node: ast.stmt) -> set[str]:
    """Return the last parts of the names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    parts = [part for each in targets if each is not None for part in ast.walk(each)]
    return {name_of(part) for part in parts if isinstance(part, ast.Name | ast.Attribute)}


def _settings(node: ast.stmt) -> list[str]:
    """Return the classes of settings that a statement makes with a learning rate."""
    made = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    return [
        name_of(each.func)
        for each in made
        if name_of(each.func).endswith("TrainingArguments")
        or (
            name_of(each.func).endswith(SETTINGS)
            and any(keyword.arg == "learning_rate" for keyword in each.keywords)
        )
    ]


def _sets_rate(node: ast.stmt) -> bool:
    """Return whether a statement is `group["lr"] = …`."""
    match node:
        case (
            ast.Assign(targets=[ast.Subscript(slice=ast.Constant("lr"))])
            | ast.AugAssign(target=ast.Subscript(slice=ast.Constant("lr")))
        ):
            return True
        case _:
            return False
