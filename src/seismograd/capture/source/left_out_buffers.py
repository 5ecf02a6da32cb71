"""Find the statement of an average that leaves out buffers, in a script that uses the average and
does nothing else about them.
"""

from __future__ import annotations

import ast
from functools import lru_cache

from seismograd.capture.source.averaging import averaging_statement
from seismograd.capture.source.shown_sources import source_of
from seismograd.capture.source.statements import name_of
from seismograd.capture.source.void_updates import FoundUpdate
from seismograd.parsed_source import parsed

# what a script says that takes care of them
WORDS = (
    "buffers",
    "named_buffers",
    "reset_running_stats",
    "running_mean",
    "running_var",
    "update_bn",
    "use_buffers",
)


@lru_cache(maxsize=8)
def left_out_buffers(files: tuple[str, ...], name: str, of: str) -> FoundUpdate | None:
    """Return the only statement that averages, where the average, `name`, is called or handed to a
    function alone, without the network that it is an average of.
    """
    trees = [parsed(source_of(file)) for file in files]
    nodes = [node for tree in trees if tree is not None for node in ast.walk(tree)]
    if not any(_uses(node, _last(name), _last(of)) for node in nodes):
        return None
    if any(_is_about_buffers(node, _last(name)) for node in nodes):
        return None
    return averaging_statement(files)


def _uses(node: ast.AST, name: str, of: str) -> bool:
    if not name or not isinstance(node, ast.Call):
        return False
    given = [_last(ast.unparse(each)) for each in node.args]
    return name_of(node.func) == name or (name in given and of not in given)


def _is_about_buffers(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=owner, attr="load_state_dict")):
            return _last(ast.unparse(owner)) == name
        case ast.Name(id=word) | ast.Attribute(attr=word) | ast.keyword(arg=word):
            return word in WORDS
        case ast.alias(name=word):
            return _last(word) in WORDS
        case _:
            return False


def _last(name: str) -> str:
    """Return the last part of a name, without what leads to a module that is wrapped."""
    return name.removesuffix(".module").rpartition(".")[2]
