"""Apply the code that a finding advises, as its reader would."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass, field

REACH = 15  # lines: how far from the place of a finding its code may stand
BEFORE_LOOP = re.compile(r"once, before the loop")
ONCE_MORE = re.compile(r"once more after the loop")
FIRST_IN_LOOP = re.compile(r"first in each epoch")
AFTER_LOOP = re.compile(r"after the loop")
BEFORE_OPTIMIZER = re.compile(r"before the optimizer is created")
AFTER_LINE = re.compile(r"after the line that (?:creates|replaces) ([\w.\[\]]+)")
OPTIMIZER = re.compile(r"=.*\b(?:SGD|AdamW?|RMSprop|Muon|LBFGS)\(|=.*\w*Trainer\(")


def mended(source: str, where: str, excerpt: str) -> list[str]:
    """Return the program with `excerpt` in it, where its own comment says, else in place of those
    of its lines that stand about `where`; twice where these lines are apart: with the excerpt where
    the first of them was, and the last.

    Nothing when the finding gives no code or place, or when it cannot be told where its code goes.
    """
    at = re.search(r"train\.py:(\d+)", where or "")
    new = [line for line in (excerpt or "").splitlines() if line.strip()]
    if not new:
        return []
    program = _Lines.of(source)
    place = int(at[1]) - 1 if at else None
    texts = program.by_comment(new, place)
    if texts is None:
        texts = program.with_settings(new)
    if texts is None and place is not None:
        texts = program.in_place(new, place)
    return [text for text in texts or () if text != source and _compiles(text)]


@dataclass
class _Lines:
    """The lines of a program, and where its statements and loops begin and end."""

    lines: list[str]
    statements: list[tuple[int, int]] = field(default_factory=list)  # simple ones, [begin, end)
    loops: list[tuple[int, int]] = field(default_factory=list)
    functions: list[tuple[int, int, str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # of statements of any kind
    blocks: list[tuple[tuple[int, int], str]] = field(default_factory=list)  # and their code

    @classmethod
    def of(cls, source: str) -> _Lines:
        made = cls(source.splitlines())
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.stmt):
                span = (node.lineno - 1, node.end_lineno or node.lineno)
                made.starts.append(span[0])
                if isinstance(node, ast.FunctionDef):
                    made.functions.append((*span, node.name))
                if isinstance(node, ast.For | ast.While):
                    made.loops.append(span)
                if hasattr(node, "body"):
                    made.blocks.append((span, ast.unparse(node)))
                else:
                    made.statements.append(span)
        return made

    def by_comment(self, new: list[str], place: int | None) -> list[str] | None:
        """Put the code where its comment says."""
        said = " ".join(re.findall(r"#.*", "\n".join(new)))
        if (match := AFTER_LINE.search(said)) is not None:
            made = self.assigning(match[1]) or self.assigning(match[1].split(".")[-1])
            gone = self.equal(new) if place is not None else []
            return [self.put(new, made[-1][1], made[-1][0], gone)] if made else []
        if BEFORE_OPTIMIZER.search(said):
            made = [s for s in self.statements if OPTIMIZER.search(self.first(s))]
            return [self.put(new, made[-1][0], made[-1][0], [])] if made else []
        if place is None:
            return None
        around = self.around_loops(place)
        comments = (BEFORE_LOOP, ONCE_MORE, AFTER_LOOP, FIRST_IN_LOOP)
        if not any(each.search(said) for each in comments):
            return None
        if not around:
            return []
        if FIRST_IN_LOOP.search(said):
            first = next(s for s in sorted(self.starts) if s > around[0][0])
            return [self.put(new, first, first, [])]
        gone = [] if ONCE_MORE.search(said) else self.equal(new)
        # The statement itself goes, too, where the loop is in a function that calls its own.
        gone = [s for s in gone if around[0][0] <= s[0] < around[0][1] or s[0] <= place < s[1]]
        if BEFORE_LOOP.search(said):
            return [self.put(new, around[0][0], around[0][0], gone)]
        return [self.put(new, around[-1][1], around[-1][0], gone)]

    def around_loops(self, place: int, depth: int = 3) -> list[tuple[int, int]]:
        """Return the loops around a line, the outermost first: in its own function, else in those
        that call it, as a reader would look for them; a comprehension is a loop, too.
        """
        inside = sorted(loop for loop in self.loops if loop[0] <= place < loop[1])
        own = [each for each in self.functions if each[0] <= place < each[1]]
        if not own or not depth:
            return inside
        own_begin, own_end, name = max(own)
        inside = [loop for loop in inside if own_begin <= loop[0] and loop[1] <= own_end]
        if inside:
            return inside
        call = re.compile(rf"\b{name}\(")
        callers = [k for k, line in enumerate(self.lines) if call.search(line) and k != own_begin]
        found = [self.around_loops(k, depth - 1) for k in callers if not own_begin <= k < own_end]
        of_one = [*found[0], *self.comprehension(callers[0])] if len(found) == 1 else []
        return of_one

    def comprehension(self, line: int) -> list[tuple[int, int]]:
        """Return the statement around a line when it holds a comprehension."""
        span = self.around(line)
        return [span] if re.search(r"\bfor\b.*\bin\b", self.text(span)) else []

    def with_settings(self, new: list[str]) -> list[str] | None:
        """Set the arguments that are given by name in the call of the same class."""
        try:
            call = ast.parse(new[0].strip()).body[0]
        except (SyntaxError, IndexError):
            return None
        if len(new) > 1 or not isinstance(call, ast.Expr) or not isinstance(call.value, ast.Call):
            return None
        name, given = ast.unparse(call.value.func), call.value.keywords
        if not given or not name.split(".")[-1][:1].isupper():
            return None
        tree = ast.parse("\n".join(self.lines))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _last(node.func) == name.split(".")[-1]:
                kept = [k for k in node.keywords if k.arg not in {g.arg for g in given}]
                node.keywords = kept + given
                if {g.arg for g in given} == {"lr"}:
                    node.args = node.args[:1]
        return [ast.unparse(tree) + "\n"]

    def in_place(self, new: list[str], place: int) -> list[str]:
        """Put the code in place of those of its lines that are there, or after the place."""
        about = range(max(0, place - REACH), min(len(self.lines), place + REACH + 1))
        blocks, alone = _blocks(new)
        # A statement that is made a comment is to go.
        wanted = {_bare(line.strip().removeprefix("# ")) for line in alone}
        found = [k for k in about if _bare(self.lines[k]) in wanted]
        # Of a line that is there twice, the one nearer to the place is meant.
        nearest = {_bare(self.lines[k]): k for k in sorted(found, key=lambda k: -abs(k - place))}
        gone = [self.around(k) for k in set(nearest.values())]
        if len(gone) < len(wanted) and _same(self.text(self.around(place)), new):
            gone.append(self.around(place))
        gone += [span for span, text in self.blocks if span[0] in about and text in blocks]
        if not gone:
            end = self.around(place)[1]
            return [self.put(new, end, place, [])]
        begins = sorted({begin for begin, _ in gone})
        return [self.put(new, k, k, gone) for k in sorted({begins[0], begins[-1]})]

    def around(self, line: int) -> tuple[int, int]:
        """Return the statement that a line is of."""
        return next((s for s in self.statements if s[0] <= line < s[1]), (line, line + 1))

    def assigning(self, name: str) -> list[tuple[int, int]]:
        """Return the statements that assign to a name, or to an attribute of it, in their order."""
        # A number in brackets may be counted from the end in the program.
        pattern = re.sub(r"\\\[\d+\\\]", r"\\[-?\\d+\\]", re.escape(name))
        target = re.compile(rf"\s*(?:[\w.]+\.)?{pattern} = ")
        return [s for s in sorted(self.statements) if target.match(self.first(s))]

    def equal(self, new: list[str]) -> list[tuple[int, int]]:
        """Return the statements that one of the new lines repeats."""
        wanted = {_bare(line) for line in new}
        return [s for s in self.statements if _bare(self.text(s)) in wanted]

    def first(self, span: tuple[int, int]) -> str:
        return " ".join(self.lines[span[0] : span[1]])

    def text(self, span: tuple[int, int]) -> str:
        return " ".join(line.strip() for line in self.lines[span[0] : span[1]])

    def put(self, new: list[str], at: int, like: int, gone: list[tuple[int, int]]) -> str:
        """Return the lines without those that are `gone`, and the new ones before the line `at`,
        indented as the line `like`.
        """
        indent = re.match(r"\s*", self.lines[like])[0]  # type: ignore[index]
        margin = min(len(line) - len(line.lstrip()) for line in new)
        left_out = {k for begin, end in gone for k in range(begin, end)}
        fresh = [indent + line[margin:] for line in new]
        out: list[str] = []
        for k, line in enumerate(self.lines):
            out += fresh if k == at else []
            out += [] if k in left_out else [line]
        out += fresh if at >= len(self.lines) else []
        return "\n".join(_not_empty(out)) + "\n"


def _not_empty(lines: list[str]) -> list[str]:
    """Return the lines with `pass` where a function or a loop has lost its only statement: to make
    that a comment is what the finding says, and Python wants a statement there.
    """
    try:
        ast.parse("\n".join(lines))
    except IndentationError as error:
        before = (error.lineno or 1) - 2
        while before >= 0 and lines[before].strip()[:1] in ("", "#"):
            before -= 1
        if "expected an indented block" not in (error.msg or "") or before < 0:
            return lines
        indent = re.match(r"\s*", lines[before])[0]  # type: ignore[index]
        return [*lines[: before + 1], f"{indent}    pass", *lines[before + 1 :]]
    except SyntaxError:
        pass
    return lines


def _last(function: ast.expr) -> str:
    return ast.unparse(function).split(".")[-1]


def _blocks(new: list[str]) -> tuple[set[str], list[str]]:
    """Return loops and the like that stand in the code as a whole, and the lines beside them; what
    stands below a `with` is beside them, for a reader puts that around the statements there are.
    """
    try:
        tree = ast.parse(textwrap.dedent("\n".join(new)))
    except SyntaxError:
        return set(), new
    blocks = [
        node for node in tree.body if hasattr(node, "body") and not isinstance(node, ast.With)
    ]
    inside = {k for node in blocks for k in range(node.lineno - 1, node.end_lineno or 0)}
    inside |= {node.lineno - 1 for node in tree.body if isinstance(node, ast.With)}
    return {ast.unparse(node) for node in blocks}, [
        line for k, line in enumerate(new) if k not in inside
    ]


def _bare(line: str) -> str:
    """Return a statement as Python reads it, whatever its spaces and comments."""
    if line.strip().startswith("#"):
        return line.strip()
    try:
        return ast.unparse(ast.parse(line.strip()))
    except SyntaxError:
        return line.strip()


def _compiles(text: str) -> bool:
    try:
        compile(text, "train.py", "exec")
    except SyntaxError:
        return False
    return True


def _same(line: str, new: list[str]) -> bool:
    """Return whether one of the new lines is the statement `line` in another way: it assigns the
    same name, returns something, too, or makes the same call.
    """
    kinds = [re.match(r"([\w.]+) = |return\b", each.strip()) for each in (line, *new)]
    if kinds[0] is not None:
        return any(each is not None and each[0] == kinds[0][0] for each in kinds[1:])
    calls = re.findall(r"(\w+)\(", line)
    return bool(calls) and any(calls[-1] in re.findall(r"(\w+)\(", other) for other in new)
