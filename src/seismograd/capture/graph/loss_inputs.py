"""Find inputs that do not suit their loss function, from the graph of the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from seismograd.capture.graph.loss_reduction import NLL
from seismograd.capture.graph.traversal import SAME_VALUES, saved, shape_of, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind

MAX_OPERATIONS = 256  # nodes visited per loss
MAX_ROWS = 64  # loss functions whose logarithms are summed

TWICE = 0.05  # how far the logarithm of a sum of probabilities may be from 0: half precision

JOINING = SAME_VALUES | {  # nodes on the way from a loss function to the loss
    "AddBackward0",
    "AliasBackward0",
    "CatBackward0",
    "DivBackward0",
    "DivBackward1",
    "ExpandBackward0",
    "GatherBackward0",
    "IndexBackward0",
    "MaskedFillBackward0",
    "MaskedSelectBackward0",
    "MeanBackward0",
    "MeanBackward1",
    "MulBackward0",
    "MulBackward1",
    "NegBackward0",
    "RsubBackward1",
    "SelectBackward0",
    "SliceBackward0",
    "SqrtBackward0",
    "SqueezeBackward0",
    "StackBackward0",
    "SubBackward0",
    "SumBackward0",
    "SumBackward1",
    "WhereBackward0",
}
PASSING = SAME_VALUES | {  # operations that pass on some or all of the same values
    "AliasBackward0",
    "ClampBackward0",
    "ClampBackward1",
    "ClampMinBackward0",
    "IndexBackward0",
    "MaskedSelectBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SqueezeBackward0",
    "UnbindBackward0",
}
RESHAPING = frozenset({"ReshapeAliasBackward0", "UnsafeViewBackward0", "ViewBackward0"})
PROBABILITIES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid"}
OF_A_LAYER = frozenset(
    {
        "AddmmBackward0",
        "BaddbmmBackward0",
        "BmmBackward0",
        "ConvolutionBackward0",
        "GeluBackward0",
        "LeakyReluBackward0",
        "LinearBackward0",
        "MmBackward0",
        "NativeBatchNormBackward0",
        "NativeLayerNormBackward0",
        "ReluBackward0",
        "SiluBackward0",
        "TanhBackward0",
    }
)
REGRESSION = {
    "MseLossBackward0": "mse",
    "HuberLossBackward0": "huber",
    "SmoothL1LossBackward0": "smooth_l1",
    "PowBackward0": "mse",
    "AbsBackward0": "l1",
}


# names of backward nodes that do what an operation does
MODULES = {"softmax": ("Softmax",), "sigmoid": ("Sigmoid",)}


@dataclass(frozen=True, slots=True)
class Fault:
    """`loss` got an input produced by `input`; `rows` and `columns` belong to the shape that shows
    the fault.
    """

    loss: str
    input: str
    rows: int = 0
    columns: int = 0


class LossInputs:
    """Inspects the first losses of each line of the script, and later ones ever more rarely;
    reports each fault once.
    """

    def __init__(self, facts: Facts, parameter_table: ParameterTable) -> None:
        self._facts, self._parameter_table = facts, parameter_table
        self._num: Counter[int] = Counter()  # number of backwards per call site
        self._told: set[tuple[int, str, str]] = set()

    def look(self, site: int, tops: list[Any]) -> None:
        """Inspect the loss of a backward that begins at this call site."""
        self._num[site] += 1
        if not is_looked_at(self._num[site]):
            return
        for fault in faults_of(tops):
            key = (site, fault.loss, fault.input)
            if key not in self._told:
                self._told.add(key)
                modules = self._parameter_table.modules_called(MODULES.get(fault.input, ()))
                self._facts.tell(
                    FactKind.LOSS_INPUT,
                    site=site,
                    loss=fault.loss,
                    input=fault.input,
                    rows=fault.rows,
                    columns=fault.columns,
                    module=modules[0] if len(modules) == 1 else "",
                )


def faults_of(tops: list[Any]) -> list[Fault]:
    """Return what is wrong with the inputs of the loss functions that these losses are made of.

    Reads the graph, and of the saved tensors only those at hand. Nothing of the model in front of
    the loss functions is inspected.
    """
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    found: list[Fault] = []
    while stack and len(seen) < MAX_OPERATIONS:
        node = stack.pop()
        name: str = node.name()
        found.extend(_faults_at(node, name))
        if name in JOINING:
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    stack.append(below)
    return list(dict.fromkeys(found))


def _faults_at(node: Any, name: str) -> Iterator[Fault]:
    if name in NLL:
        yield from _nll(node)
    elif name == "LogSoftmaxBackward0":
        yield from _log_softmax(node)
    elif name == "BinaryCrossEntropyWithLogitsBackward0":
        made_by = PROBABILITIES.get(_made_by(node).name() if _made_by(node) is not None else "")
        if made_by:
            yield Fault("bce_with_logits", made_by)
    elif name == "BinaryCrossEntropyBackward0":
        once = _made_by(node)
        twice = _made_by(once) if once is not None and once.name() == "SigmoidBackward0" else None
        if twice is not None and twice.name() in PROBABILITIES:
            yield Fault("bce", PROBABILITIES[twice.name()])
    elif name in ("SubBackward0", "MulBackward0"):
        yield from _kl_div(node, name)
    if name in REGRESSION:
        yield from _broadcast(node, name)


def _made_by(node: Any, position: int = 0) -> Any:
    """Return the operation that produced an operand, skipping those that only pass its values
    on.
    """
    below = source(node, position)
    while below is not None and below.name() in PASSING:
        below = source(below)
    return below


def _log_softmax(node: Any) -> Iterator[Fault]:
    below = _made_by(node)
    if below is not None and below.name() in PROBABILITIES:
        shape = shape_of(below)
        yield Fault("cross_entropy", PROBABILITIES[below.name()], *_two(shape))


def _nll(node: Any) -> Iterator[Fault]:
    below = _made_by(node)
    name = "" if below is None else below.name()
    given = saved(node, "self")
    shape = () if given is None else tuple(given.shape)
    if name in PROBABILITIES:
        yield Fault("nll", PROBABILITIES[name], *_two(shape))
    elif name == "LogSoftmaxBackward0":
        if given is not None and _is_off(given):
            yield Fault("nll", "log_softmax over another dimension", *_two(shape))
        else:
            yield from _log_softmax(below)
            moved = _moved_classes(below)
            if moved is not None:
                yield Fault("cross_entropy", "view", *moved)
    elif (
        given is not None
        and (name in OF_A_LAYER or bool((given[:MAX_ROWS] > 1e-3).any()))
        and _is_off(given)
    ):
        yield Fault("nll", "logits", *_two(shape))


def _is_off(given: torch.Tensor) -> bool:
    """Return whether the probabilities of a row do not sum to one, given what should be their
    logarithms  # (N, C, …) or (C,).
    """
    with torch.no_grad():
        rows = given.detach().unsqueeze(0) if given.dim() == 1 else given[:MAX_ROWS]
        total = torch.logsumexp(rows.float(), 1)
        total = total[torch.isfinite(total)]
        return total.numel() > 0 and float(total.abs().median()) > TWICE


def _moved_classes(node: Any) -> tuple[int, int] | None:
    """Return the sizes of the class dimension, now and originally, where a view has put it there
    without moving its numbers.
    """
    below = source(node)
    while below is not None and below.name() in PASSING:
        if below.name() in RESHAPING:
            before, after = (
                _sizes(getattr(below, "_saved_self_sym_sizes", ())),
                _sizes(shape_of(below)),
            )
            if (
                len(before) >= 2
                and len(before) == len(after)
                and sorted(before) == sorted(after)
                and before[1] != after[1]
            ):
                return after[1], before[1]
        below = source(below)
    return None


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in shape if int(size) != 1)


def _kl_div(node: Any, name: str) -> Iterator[Fault]:
    """Check `target.xlogy(target) - target * input`, or `target.exp() * (target - input)` with
    `log_target`; `input` should be logarithms.
    """
    if source(node) is not None:
        return
    if name == "SubBackward0":
        inner = source(node, 1)
        if inner is None or inner.name() != "MulBackward0" or source(inner) is not None:
            return
        weights, position = saved(inner, "self"), 1
    else:
        inner = source(node, 1)
        if inner is None or inner.name() != "SubBackward0" or source(inner) is not None:
            return
        weights, position = saved(node, "self"), 1
    below = _made_by(inner, position)
    if weights is None or below is None or not _is_soft(weights):
        return
    if below.name() == "SoftmaxBackward0":
        yield Fault("kl_div", "softmax", *_two(tuple(weights.shape)))
    elif below.name() in OF_A_LAYER:
        yield Fault("kl_div", "logits", *_two(tuple(weights.shape)))


def _is_soft(weights: torch.Tensor) -> bool:
    """Return whether these are probabilities over several classes in any dimension, not one-hot
    ones.
    """
    if not weights.is_floating_point() or weights.dim() == 0:
        return False
    with torch.no_grad():
        plain = weights[:MAX_ROWS].float()
        if bool((plain < 0).any()) or bool(((plain == 0) | (plain == 1)).all()):
            return False
        return any(
            size > 1 and bool((plain.sum(dim) - 1).abs().max() < 0.02)
            for dim, size in enumerate(plain.shape)
        )


def _broadcast(node: Any, name: str) -> Iterator[Fault]:
    """Detect [N, 1] against [N]: each prediction is compared with every target."""
    difference = source(node) if name in ("PowBackward0", "AbsBackward0") else None
    if difference is None:
        one, other = saved(node, "self"), saved(node, "target")
        if one is not None and other is not None and _is_crossed(one, other):
            yield Fault(REGRESSION[name], "broadcast", *_two(tuple(one.shape)))
        return
    if difference.name() != "SubBackward0":
        return
    kept = saved(node, "self")
    if kept is None or kept.dim() != 2 or kept.shape[0] != kept.shape[1] or kept.shape[0] < 2:
        return
    shapes = [_shape_before(source(difference, position)) for position in (0, 1)]
    live = [shape for shape in shapes if shape is not None]
    num = kept.shape[0]
    if len(live) == 2:
        is_crossed = sorted(live) == [(num,), (num, 1)]
    else:
        is_crossed = live[0] in ((num,), (num, 1)) and _is_sum_of_two(kept)
    if is_crossed:
        yield Fault(REGRESSION[name], "broadcast", num, num)


def _is_crossed(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether each of two square matrices is a single expanded row or column, and they run
    in different directions.
    """
    if (
        one.dim() != 2
        or one.shape != other.shape
        or one.shape[0] != one.shape[1]
        or one.shape[0] < 2
    ):
        return False
    expanded = [
        [dim for dim, stride in enumerate(each.stride()) if stride == 0] for each in (one, other)
    ]
    return sorted(expanded) == [[0], [1]]


def _shape_before(node: Any) -> tuple[int, ...] | None:
    """Return the shape of an operand before it was expanded; `None` for one without a graph."""
    if node is None:
        return None
    if node.name() == "ExpandBackward0":
        return tuple(int(size) for size in node._saved_self_sym_sizes)
    return shape_of(node)


def _is_sum_of_two(matrix: torch.Tensor) -> bool:
    """Return whether a matrix is a column plus a row."""
    with torch.no_grad():
        plain = matrix.double()
        rest = plain - plain[:, :1] - plain[:1] + plain[0, 0]
        return bool(rest.abs().max() <= 1e-5 * plain.abs().max())


def _two(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], shape[1]) if len(shape) > 1 else (0, 0)
