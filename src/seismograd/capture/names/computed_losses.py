"""Find a variable of the script that holds a loss of zero without a graph.

A zero that starts a sum (`total = torch.zeros(())`) is added to losses as well, and the graph shows
no difference; the line that assigns the variable does.
"""

from __future__ import annotations

import ast
import linecache
import re
from functools import lru_cache

import torch

from seismograd.capture.names.script_variables import variables
from seismograd.schema import Site

LOSS_FUNCTION = re.compile(r"loss|criterion|kl_div|entropy|mse|nll|divergence", re.IGNORECASE)
MAX_VISITED = 256  # objects
NEARLY_ZERO = 1e-6


def zero_loss(site: Site) -> str:
    """Return the name of a variable with a number that is zero, has no graph, and that the function
    around this place assigned from a call of a loss function; empty where there is none.
    """
    computed = _computed(site.file, site.line)
    for value, name in variables(MAX_VISITED).values() if computed else ():
        if name.rpartition(".")[2] in computed and _is_zero(value):
            return name
    return ""


def _is_zero(value: object) -> bool:
    return (
        type(value) is torch.Tensor
        and value.numel() == 1
        and value.is_floating_point()
        and not value.requires_grad
        and not value.is_meta
        and abs(float(value)) <= NEARLY_ZERO
    )


@lru_cache(maxsize=64)
def _computed(file: str, line: int) -> frozenset[str]:
    """Return the names that the function around this line, or the script, assigns from a call of a
    loss function.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return frozenset()
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= line <= (node.end_lineno or 0)
    ]
    around = max(functions, key=lambda node: node.lineno, default=tree)
    return frozenset(
        target.attr if isinstance(target, ast.Attribute) else target.id
        for node in ast.walk(around)
        if isinstance(node, ast.Assign) and any(map(_is_loss, ast.walk(node.value)))
        for target in node.targets
        if isinstance(target, ast.Name | ast.Attribute)
    )


def _is_loss(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return bool(LOSS_FUNCTION.search(str(name)))
