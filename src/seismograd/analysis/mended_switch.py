"""Write a statement that sets an attribute which nothing reads as it should read."""

from __future__ import annotations

import ast

from seismograd.parsed_source import parsed

READ = "requires_grad"


def mended_switch(text: str, on: str) -> str:
    """Return the call of the method where it is set `on` a module, else the statement with the name
    that torch reads; empty where the text is no such statement.
    """
    tree = parsed(text)
    node = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
        return ""
    owner, value = ast.unparse(node.targets[0].value), ast.unparse(node.value)
    if on == "module":
        return f"{owner}.{READ}_({value})"
    return f"{owner}.{READ} = {value}"
