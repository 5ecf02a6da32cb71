"""Find the statement that computes attention."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, calls, statements

ATTENTION = ("scaled_dot_product_attention",)
PADDING = ("src_key_padding_mask", "key_padding_mask", "memory_key_padding_mask", "attention_mask")


def masked_call(file: str) -> Statement | None:
    """Return the only statement that passes a mask of the padding by its name."""
    return _only([s for s in statements(file) if not s.evaluates and _passes(s.node, PADDING)])


def attention_call(file: str) -> Statement | None:
    """Return the only statement that calls torch's function for attention."""
    return _only([s for s in statements(file) if not s.evaluates and calls(s.node, ATTENTION)])


def _only(found: list[Statement]) -> Statement | None:
    return found[0] if len(found) == 1 else None


def _passes(node: ast.stmt, names: tuple[str, ...]) -> bool:
    return any(
        keyword.arg in names
        for each in ast.walk(node)
        if isinstance(each, ast.Call)
        for keyword in each.keywords
    )
