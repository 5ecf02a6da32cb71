"""The custom autograd Functions in the graph of a loss, and where their backward stands."""

from __future__ import annotations

import linecache
from types import CodeType, FunctionType
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction

from seismograd.capture.graph.traversal import MAX_NODES
from seismograd.capture.loop.call_sites import CallSites

MAX_FUNCTIONS = 512  # calls of custom Functions in a graph


def custom_functions(tops: list[Any]) -> list[Any]:
    """Return the calls of Functions in these graphs that are not torch's own."""
    found = [
        node
        for node in nodes_below(tops)
        if isinstance(node, BackwardCFunction)
        and not getattr(type(node), "_forward_cls", torch.Tensor).__module__.startswith("torch.")
    ]
    return found[:MAX_FUNCTIONS]


def backward_site(node: Any, call_sites: CallSites) -> int:
    """Return the index of the line of a Function's backward; -1 where the script does not have
    it.
    """
    backward = getattr(node._forward_cls, "backward", None)
    code = backward.__code__ if isinstance(backward, FunctionType) else None
    if code is None or not call_sites.is_of_script(code.co_filename):
        return -1
    return call_sites.at(code.co_filename, _first_line(code), code.co_qualname)


def nodes_below(tops: list[Any]) -> set[Any]:
    """Return these nodes and all below them."""
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    while stack and len(seen) < MAX_NODES:
        for source, _ in stack.pop().next_functions:
            if source is not None and source not in seen:
                seen.add(source)
                stack.append(source)
    return seen


def _first_line(code: CodeType) -> int:
    """Return the line of a function's `def`, below its decorators."""
    line = code.co_firstlineno
    while linecache.getline(code.co_filename, line).lstrip().startswith("@"):
        line += 1
    return line
