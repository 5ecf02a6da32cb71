"""Find a call of `torch.autograd.grad` without `create_graph=True` whose result is added to what a
loss is made of, number by number, as the second derivative in the residual of a differential
equation: it is a constant there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from seismograd.capture.source.shown_sources import source_of
from seismograd.capture.source.statements import EVALUATES, name_of, one_line
from seismograd.parsed_source import parsed

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
COMPARING = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "MSELoss",
    "L1Loss",
    "HuberLoss",
)
CUTTING = ("detach", "item", "tolist", "numpy", "sign")
# what makes one number of many
REDUCING = ("abs", "amax", "max", "mean", "norm", "pow", "square", "std", "sum")
TORCHS = ("torch", "F", "nn", "functional")
PASSING = frozenset(
    {
        *("cat", "clone", "contiguous", "diagonal", "einsum", "expand", "flatten", "narrow"),
        *("permute", "real", "reshape", "select", "split", "squeeze", "stack", "t", "to"),
        *("transpose", "unbind", "unflatten", "unsqueeze", "view", "view_as"),
    }
)
PURE, MIXED = 1, 2  # nothing but derivatives; added to something else


@dataclass(frozen=True, slots=True)
class FirstOrderCall:
    """The statement with the call: its place and its text."""

    place: str
    text: str


@dataclass(slots=True)
class _Reader:
    """Follows the result of one such call through the functions of a file. `kinds`: what the
    functions return, by name; `zeros`: variables that a sum begins with.
    """

    source: ast.Call
    kinds: dict[str, int] = field(default_factory=dict[str, int])
    zeros: set[str] = field(default_factory=set[str])
    is_loss: bool = False

    def follow(self, scope: ast.AST) -> int:
        """Return what a function returns of them; note where it is backpropagated."""
        names: dict[str, int] = {}
        returned = 0
        for _ in range(2):  # loops
            for node in _statements(scope):
                match node:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_zero(value):
                        self.zeros.add(name)
                    case ast.Assign(targets=targets, value=value):
                        kind = self.kind(value, names)
                        for target in targets:
                            for name in _stored(target):
                                self._store(names, name, kind)
                    case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                        self._store(names, name, self.kind(value, names))
                    case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                        both = ast.BinOp(ast.Name(name, ast.Load()), op, value)
                        self._store(names, name, self.kind(both, names))
                    case ast.Return(value=ast.expr() as value):
                        returned = max(returned, self.kind(value, names))
                    case ast.Expr(value=ast.Call() as call):
                        self._call(call, names)
                    case _:
                        pass
        return returned

    def _store(self, names: dict[str, int], name: str, kind: int) -> None:
        names[name] = max(kind, names.get(name, 0))

    def _call(self, call: ast.Call, names: dict[str, int]) -> None:
        if name_of(call.func) == "append" and isinstance(call.func, ast.Attribute) and call.args:
            self._store(names, ast.unparse(call.func.value), self.kind(call.args[0], names))
        if name_of(call.func) != "backward":
            return
        given = [
            *call.args[:1],
            *([call.func.value] if isinstance(call.func, ast.Attribute) else []),
        ]
        self.is_loss |= any(self.kind(each, names) == MIXED for each in given)

    def kind(self, node: ast.expr | None, names: dict[str, int]) -> int:
        """Return what an expression holds of them."""
        match node:
            case ast.Name(id=name):
                return names.get(name, 0)
            case ast.BinOp(left=left, op=op, right=right):
                return self._of_two(left, op, right, names)
            case ast.UnaryOp(operand=inner) | ast.Subscript(value=inner) | ast.Starred(value=inner):
                return self.kind(inner, names)
            case ast.Attribute(value=inner, attr=attr):
                return self.kind(inner, names) if attr in ("T", "mT", "real") else 0
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return max((self.kind(each, names) for each in parts), default=0)
            case ast.ListComp(elt=inner) | ast.GeneratorExp(elt=inner):
                return self.kind(inner, names)
            case ast.Call():
                return self._of_call(node, names)
            case _:
                return 0

    def _of_two(
        self, left: ast.expr, op: ast.operator, right: ast.expr, names: dict[str, int]
    ) -> int:
        one, other = self.kind(left, names), self.kind(right, names)
        if not isinstance(op, ast.Add | ast.Sub):
            return max(one, other)
        if max(one, other) == MIXED:
            return MIXED
        if not (one or other) or (one and other):
            return one
        rest = right if one else left
        begins = _is_zero(rest) or (isinstance(rest, ast.Name) and rest.id in self.zeros)
        return PURE if begins else MIXED

    def _of_call(self, call: ast.Call, names: dict[str, int]) -> int:
        function = name_of(call.func)
        if call is self.source:
            return PURE
        given = [self.kind(each, names) for each in call.args]
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        is_torchs = isinstance(owner, ast.Name | ast.Attribute) and ast.unparse(owner) in TORCHS
        own = 0 if owner is None or is_torchs else self.kind(owner, names)
        if function in self.kinds and not own:
            return self.kinds[function]
        if function in CUTTING:
            return 0
        if function in COMPARING and max(given[:2], default=0):
            return MIXED if min(given[:2]) == 0 or MIXED in given else PURE
        if own:
            return 0 if own == PURE and function in REDUCING else own
        if is_torchs or function in PASSING or function in REDUCING or function == "sum":
            kind = max(given, default=0)
            is_plain_sum = function == "sum" and owner is None  # Python's, of a list
            return 0 if kind == PURE and function in REDUCING and not is_plain_sum else kind
        return 0  # a network, of which nothing is known


def first_order_residual(file: str) -> FirstOrderCall | None:
    """Return the first such statement of a file whose result is backpropagated."""
    source = source_of(file)
    tree = parsed(source)
    if tree is None:
        return None
    functions = [each for each in ast.walk(tree) if isinstance(each, FUNCTIONS)]
    for statement, call in _calls(tree):
        reader = _Reader(call)
        for _ in range(3):  # functions that call others
            for each in functions:
                kind = reader.follow(each)
                if kind:
                    reader.kinds[each.name] = max(kind, reader.kinds.get(each.name, 0))
        reader.follow(tree)
        if reader.is_loss:
            return FirstOrderCall(f"{file}:{statement.lineno}", one_line(statement, source))
    return None


def is_first_order(call: ast.Call) -> bool:
    """Return whether this is `torch.autograd.grad(…)`, or `grad(…)`, without `create_graph`."""
    match call.func:
        case ast.Attribute(value=owner, attr="grad"):
            is_grad = ast.unparse(owner).endswith("autograd")
        case ast.Name(id="grad"):
            is_grad = len(call.args) > 1
        case _:
            return False
    return is_grad and not any(
        keyword.arg in ("create_graph", None)
        and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
        for keyword in call.keywords
    )


def _calls(tree: ast.AST, *, evaluates: bool = False) -> Iterator[tuple[ast.stmt, ast.Call]]:
    """Yield the statements with such a call, outside of functions that evaluate."""
    for node in ast.iter_child_nodes(tree):
        inner = evaluates or (isinstance(node, FUNCTIONS) and bool(EVALUATES.search(node.name)))
        if inner:
            continue
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Return | ast.Expr | ast.AnnAssign):
            for each in ast.walk(node):
                if isinstance(each, ast.Call) and is_first_order(each):
                    yield node, each
        else:
            yield from _calls(node, evaluates=inner)


def _statements(scope: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a function in their order, without those of functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, FUNCTIONS | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _statements(child)


def _stored(target: ast.expr) -> Iterator[str]:
    match target:
        case ast.Name(id=name):
            yield name
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for each in parts:
                yield from _stored(each)
        case ast.Subscript(value=ast.Name(id=name)):
            yield name
        case _:
            pass


def _is_zero(node: ast.expr) -> bool:
    """Return whether this is what a sum begins with."""
    match node:
        case ast.Constant(value=int() | float()):
            return True
        case ast.Call(func=function):
            return name_of(function) in ("zeros", "zeros_like", "new_zeros")
        case _:
            return False
