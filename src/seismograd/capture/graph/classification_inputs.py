"""Find inputs that do not suit a classification loss: probabilities for logits, and the like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from seismograd.capture.graph.cosine_logits import cosines, similarities
from seismograd.capture.graph.loss_operands import MAX_ROWS, PASSING, Fault, class_sizes, made_by
from seismograd.capture.graph.traversal import saved, shape_of, source

TWICE = 0.05  # how far the logarithm of a sum of probabilities may be from 0: half precision

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


def binary_cross_entropy_with_logits(node: Any) -> Iterator[Fault]:
    """Detect logits that are probabilities already."""
    below = made_by(node)
    if below is not None and below.name() in PROBABILITIES:
        yield Fault("bce_with_logits", PROBABILITIES[below.name()])


def binary_cross_entropy(node: Any) -> Iterator[Fault]:
    """Detect probabilities that went through a sigmoid twice."""
    once = made_by(node)
    twice = made_by(once) if once is not None and once.name() == "SigmoidBackward0" else None
    if twice is not None and twice.name() in PROBABILITIES:
        yield Fault("bce", PROBABILITIES[twice.name()])


def ctc(node: Any) -> Iterator[Fault]:
    """Detect inputs that are not log-probabilities over the classes, the last dimension."""
    given, below = saved(node, "log_probs"), made_by(node)
    if given is None or not _is_off(given.flatten(0, -2)):
        return
    name = "" if below is None else below.name()
    if name == "LogSoftmaxBackward0":
        yield Fault("ctc", "log_softmax over another dimension", *given.shape[-2:])
    else:
        yield Fault("ctc", PROBABILITIES.get(name, "logits"), *given.shape[-2:])


def log_softmax(node: Any) -> Iterator[Fault]:
    """Detect logits of a cross entropy that are probabilities already, or cosines."""
    yield from cosines(node)
    below = made_by(node)
    if below is not None and below.name() in PROBABILITIES:
        shape = shape_of(below)
        yield Fault("cross_entropy", PROBABILITIES[below.name()], *class_sizes(shape))


def nll(node: Any) -> Iterator[Fault]:
    """Detect inputs that are not the logarithms of probabilities over the classes."""
    below = made_by(node)
    name = "" if below is None else below.name()
    given = saved(node, "self")
    shape = () if given is None else tuple(given.shape)
    if name in PROBABILITIES:
        yield Fault("nll", PROBABILITIES[name], *class_sizes(shape))
    elif name == "LogSoftmaxBackward0":
        if given is not None and _is_off(given):
            yield Fault("nll", "log_softmax over another dimension", *class_sizes(shape))
        else:
            yield from log_softmax(below)
            yield from similarities(below)
            moved = _moved_classes(below)
            if moved is not None:
                yield Fault("cross_entropy", "view", *moved)
    elif (
        given is not None
        and (name in OF_A_LAYER or bool((given[:MAX_ROWS] > 1e-3).any()))
        and _is_off(given)
    ):
        yield Fault("nll", "logits", *class_sizes(shape))


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
            if len(before) > 2 == len(after) and _mixes(before, after[1], source(below)):
                return after[1], before[len(before) - 1]
        below = source(below)
    return None


def _mixes(before: tuple[int, ...], num_classes: int, made: Any) -> bool:
    """Return whether a view of (N, C, …) has rows of C numbers that are of several positions: its
    last dimension is not the classes, nor several times them, or a convolution says which is.
    """
    if num_classes not in before[1:-1] or before[-1] == num_classes:
        return False
    is_conv = made is not None and made.name() == "ConvolutionBackward0"
    return before[-1] % num_classes != 0 or (is_conv and before[1] == num_classes)


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in shape if int(size) != 1)


def kl_div(node: Any, name: str) -> Iterator[Fault]:
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
    below = made_by(inner, position)
    if weights is None or below is None or not _is_soft(weights):
        return
    if below.name() == "SoftmaxBackward0":
        yield Fault("kl_div", "softmax", *class_sizes(tuple(weights.shape)))
    elif below.name() in OF_A_LAYER:
        yield Fault("kl_div", "logits", *class_sizes(tuple(weights.shape)))


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
