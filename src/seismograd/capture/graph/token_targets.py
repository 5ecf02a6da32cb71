"""Compare the targets of a cross entropy over tokens with the tokens that the model was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.loss_reduction import NLL
from seismograd.capture.graph.traversal import saved, signed

MIN_COMPARED = 32  # targets
MIN_DISTINCT = 4  # tokens: equal ones match at any offset
MAX_SCALARS = 1 << 20
MAX_NODES = 64  # between a loss and the layer that gives its logits
MAX_EMBEDDINGS = 16  # that are looked at
MAX_COMPARED = 64  # sequences
OFFSETS = (0, 1, 2)
BY_CHANCE = 0.9  # of the targets that may be equal at another offset


@dataclass(frozen=True, slots=True)
class TokenTargets:
    """The target at each position is the token `offset` positions ahead of it.

    `embedding`: the operation that looked the tokens up; `tokens`, (B, T); `counts`: which targets
    are not ignored, (B, T) or one less of T.
    """

    embedding: Any
    offset: int
    tokens: torch.Tensor
    counts: torch.Tensor


def token_targets(graph: LossGraph) -> TokenTargets | None:
    """Return how the targets of a loss lie to the tokens of its model; `None` unless there is one
    embedding of tokens and one offset that fit.
    """
    losses = [node for node in graph.nodes if node.name() in NLL]
    if not losses:
        return None
    found = [
        fit
        for embedding, tokens in embedded_tokens(graph)
        for node in losses
        if (fit := _fit(node, embedding, tokens)) is not None
    ]
    return found[0] if len(found) == 1 else None


def embedded_tokens(graph: LossGraph) -> Iterator[tuple[Any, torch.Tensor]]:
    """Yield the operations that look up a batch of sequences of tokens, with these."""
    nodes = [node for node in graph.nodes if node.name() == "EmbeddingBackward0"]
    for node in nodes[:MAX_EMBEDDINGS]:
        tokens = saved(node, "indices")
        if tokens is not None and tokens.dim() == 2 and 0 < tokens.numel() <= MAX_SCALARS:
            yield node, tokens


def kinds(tokens: torch.Tensor) -> set[int]:
    """Return which tokens there are."""
    return set(map(int, torch.unique(tokens).tolist()))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _fit(node: Any, embedding: Any, tokens: torch.Tensor) -> TokenTargets | None:
    target = saved(node, "target")
    if target is None or target.device != tokens.device or target.numel() > MAX_SCALARS:
        return None
    ignored = signed(node._saved_ignore_index)
    for given in (tokens, tokens.T):  # batch first, or time first
        batch, length = given.shape
        for width in (length, length - 1):
            if width < len(OFFSETS) or target.numel() != batch * width:
                continue
            # (B, T) in the order of the numbers: a loss over time first is flattened that way
            laid = target.reshape(batch, width) if given is tokens else target.reshape(width, -1).T
            offset = _offset(laid, given, ignored)
            if offset is not None and width < length and _begins_late(node, length):
                offset = offset - 1 if offset else None  # the first target is the second token's
            if offset is not None:
                return TokenTargets(embedding, offset, given, laid != ignored)
    return None


def _begins_late(node: Any, length: int) -> bool:
    """Return whether what a loss compares leaves out the first of the positions."""
    stack, seen = [node], {node}
    while stack and len(seen) < MAX_NODES:
        for below, _ in stack.pop().next_functions:
            if below is None or below in seen:
                continue
            if below.name() == "SliceBackward0" and below._saved_start == 1:
                sizes, dim = below._saved_self_sym_sizes, signed(below._saved_dim)
                if len(sizes) > 1 and int(sizes[dim]) == length:
                    return True
            seen.add(below)
            stack.append(below)
    return False


def _offset(target: torch.Tensor, tokens: torch.Tensor, ignored: int) -> int | None:
    """Return the offset at which all targets are equal to the tokens, if it is the only one."""
    shares: list[float] = []
    target, tokens = target[:MAX_COMPARED], tokens[:MAX_COMPARED]
    for offset in OFFSETS:
        width = min(target.shape[1], tokens.shape[1] - offset)
        here, there = target[:, :width], tokens[:, offset : offset + width]
        counts = here != ignored
        if int(counts.sum()) < MIN_COMPARED or len(kinds(here[counts])) < MIN_DISTINCT:
            return None
        shares.append(float((here == there)[counts].double().mean()))
    best = max(range(len(OFFSETS)), key=shares.__getitem__)
    others = [share for offset, share in enumerate(shares) if offset != best]
    return OFFSETS[best] if shares[best] == 1 and max(others) < BY_CHANCE else None
