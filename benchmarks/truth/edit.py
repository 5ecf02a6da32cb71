"""Find places in a program's syntax tree, and change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, cached_property

import libcst as cst

BLANK = cst.Module([])


@cache  # nodes never change, and mutators ask for the text of each statement again and again
def code(node: cst.CSTNode) -> str:
    """Return the text of `node` without the comments above it."""
    if isinstance(node, cst.SimpleStatementLine):
        node = node.with_changes(leading_lines=[])
    return BLANK.code_for_node(node).strip()


@dataclass(frozen=True)
class Place:
    """A statement, with the statements that it stands in, the outermost first."""

    node: cst.BaseStatement
    outer: tuple[cst.BaseStatement, ...]
    siblings: tuple[cst.BaseStatement, ...]

    @cached_property
    def text(self) -> str:
        return code(self.node)

    @property
    def loops(self) -> tuple[cst.For, ...]:
        """The loops around it within its own function, the outermost first."""
        inner: list[cst.For] = []
        for node in self.outer:
            if isinstance(node, cst.FunctionDef):
                inner = []
            elif isinstance(node, cst.For):
                inner.append(node)
        return tuple(inner)

    @property
    def function(self) -> str:
        names = [n.name.value for n in self.outer if isinstance(n, cst.FunctionDef)]
        return names[-1] if names else ""


class _Swap(cst.CSTTransformer):
    def __init__(
        self,
        changes: dict[cst.CSTNode, list[cst.CSTNode] | cst.CSTNode],
        on_the_way: set[cst.CSTNode],
    ):
        super().__init__()
        self.changes = changes
        self.on_the_way = on_the_way  # nodes with a change in them: no others are walked

    def on_visit(self, node: cst.CSTNode) -> bool:
        return node in self.on_the_way

    def on_leave(self, original_node, updated_node):  # type: ignore[no-untyped-def]
        if original_node not in self.changes:
            return super().on_leave(original_node, updated_node)
        new = self.changes[original_node]
        if isinstance(new, cst.CSTNode):
            return new
        # What stays of a statement keeps the changes that were made within it.
        kept = [updated_node if n is original_node else n for n in new]
        return cst.FlattenSentinel(kept) if kept else cst.RemoveFromParent()


@dataclass(frozen=True)
class Edited:
    """A changed program, and the lines that are new in it."""

    source: str
    lines: tuple[int, ...]


class Program:
    """A program that can be searched; a change of it is new source, and leaves it as it is."""

    def __init__(self, source: str):
        self.source = source
        self.module = cst.parse_module(source)
        self.places = list(self._walk(self.module.body, ()))

    def _walk(self, body, outer) -> Iterator[Place]:  # type: ignore[no-untyped-def]
        for node in body:
            yield Place(node, outer, tuple(body))
            inner = node
            while inner is not None:
                block = getattr(inner, "body", None)
                if isinstance(block, cst.IndentedBlock):
                    yield from self._walk(block.body, (*outer, node))
                inner = getattr(inner, "orelse", None)

    def find(self, pattern: str) -> list[Place]:
        """Return the simple statements whose whole text matches."""
        return [
            p
            for p in self.places
            if isinstance(p.node, cst.SimpleStatementLine)
            and re.fullmatch(pattern, p.text, re.DOTALL)
        ]

    def calls(self, pattern: str, within: cst.CSTNode | None = None) -> list[cst.Call]:
        """Return the calls whose function's text matches, in the order of the program."""
        found: list[cst.Call] = []

        class Look(cst.CSTVisitor):
            def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
                if re.fullmatch(pattern, code(node.func)):
                    found.append(node)

        (within or self.module).visit(Look())
        return found

    def holder(self, node: cst.CSTNode) -> Place | None:
        """Return the innermost statement that `node` is in."""
        return self._holders.get(node)

    @cached_property
    def _holders(self) -> dict[cst.CSTNode, Place]:
        # Outer statements come before those within them, which take their nodes over.
        return {node: place for place in self.places for node in _descend(place.node)}

    @cached_property
    def _parents(self) -> dict[cst.CSTNode, cst.CSTNode]:
        return {child: node for node in _descend(self.module) for child in node.children}

    def edit(self, changes: dict[cst.CSTNode, str | list[str | cst.CSTNode]]) -> Edited | None:
        """Return the program with expressions replaced by a text, statements by statements.

        None if nothing changes.
        """
        ready: dict[cst.CSTNode, list[cst.CSTNode] | cst.CSTNode] = {}
        for old, new in changes.items():
            if isinstance(new, str):
                ready[old] = cst.parse_expression(new)
            else:
                ready[old] = [cst.parse_statement(n) if isinstance(n, str) else n for n in new]
        on_the_way: set[cst.CSTNode] = set()
        for node in ready:
            while node is not None and node not in on_the_way:
                on_the_way.add(node)
                node = self._parents.get(node)
        text = self.module.visit(_Swap(ready, on_the_way)).code
        return Edited(text, changed_lines(self.source, text)) if text != self.source else None


def changed_lines(before: str, after: str) -> tuple[int, ...]:
    """Return the numbers of the lines of `after`, from 1, that `before` does not have there."""
    blocks = SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    return tuple(
        line + 1
        for tag, _, _, a, b in blocks.get_opcodes()
        if tag != "equal"
        for line in range(a, b)
    )


def _descend(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _descend(child)
