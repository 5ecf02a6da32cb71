"""Find places in a program's syntax tree, and change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

import libcst as cst

BLANK = cst.Module([])


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

    @property
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
    def __init__(self, changes: dict[cst.CSTNode, list[cst.CSTNode] | cst.CSTNode]):
        super().__init__()
        self.changes = changes

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
        best = None
        for place in self.places:
            if any(n is node for n in _descend(place.node)):
                best = place
        return best

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
        text = self.module.visit(_Swap(ready)).code
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


# What the training's own statements look like.
STEP = r"(?:self\.)?(?:opt\w*|optim\w*|meta_opt|\w+_optimizer|first)\.step\((?:closure)?\)"
SCALED_STEP = r"(?:self\.)?scaler\.step\((?P<opt>[\w.]+)\)"
BACKWARD = r"(?:[\w.]+|.+)\.backward\(.*\)"
ZERO = r"[\w.]+\.zero_grad\(.*\)"
CLIP = r"(?:[\w.]+\.)?clip_grad_norm_\(.*\)"
SCHEDULE = r"(?:self\.)?(?:scheduler|sched|lr_scheduler)\.step\(.*\)"
OPTIMIZER = r"(?:torch\.optim\.|optim\.)?(?:SGD|Adam|AdamW|RMSprop|Muon)"


def last(places: list[Place]) -> Place | None:
    return places[-1] if places else None


def step_of(program: Program) -> Place | None:
    """Return the last optimizer step that is taken in a loop or a function of its own."""
    return last(program.find(f"{STEP}|{SCALED_STEP}"))


def stepped(place: Place) -> str:
    """Return the expression of the optimizer that a step is of."""
    scaled = re.fullmatch(SCALED_STEP, place.text)
    return scaled["opt"] if scaled else place.text.rpartition(".step")[0]


def optimizer_of(program: Program) -> tuple[Place, cst.Call, str, str] | None:
    """Return the statement that makes the last optimizer, its call, its name, and its model's."""
    step = step_of(program)
    for place in reversed(program.find(r"[\w.]+ = .*")):
        name = place.text.partition(" = ")[0]
        owners = {p.function for p in program.find(rf"{re.escape(name)} = .*")}
        if step and place.function != step.function and step.function in owners:
            continue  # a function's own variable, and another function steps its own
        made = program.calls(OPTIMIZER, place.node)
        if made and code(made[0]) == place.text.partition(" = ")[2] and made[0].args:
            model = re.search(r"([\w.]+)\.parameters\(\)", code(made[0].args[0].value))
            if model:
                return place, made[0], name, model[1]
    return None


def after_imports(program: Program) -> cst.BaseStatement:
    """Return the last import at the top of the file."""
    return [
        p.node for p in program.places if not p.outer and p.text.startswith(("import ", "from "))
    ][-1]
