"""Find attention that is masked the wrong way, from what its operations saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.token_targets import (
    MIN_DISTINCT,
    TokenTargets,
    embedded_tokens,
    kinds,
)
from seismograd.capture.graph.traversal import saved

MAX_SCALARS = 1 << 23  # of the weights of an attention
MASKED = -1e4  # what is added to a score where it is masked, at most; half precision included
MOST = 0.9  # of the positions
MIN_LENGTH = 3
MAX_ATTENTIONS = 2  # of a sequence, whose masks of the padding are compared with it

MASKS = ("attn_mask", "attn_bias")  # as the operations name them
FUSED = "ScaledDotProduct"  # with which the names of torch's own operations begin
PRODUCTS = frozenset({"BmmBackward0", "BaddbmmBackward0"})
MAX_BETWEEN = 8  # operations from the product of queries and keys to the softmax
SOFTMAX = frozenset({"SafeSoftmaxBackward0", "SoftmaxBackward0"})


@dataclass(frozen=True, slots=True)
class Attention:
    """Which keys each query of an attention sees, by any of its heads: (B or 1, Q or 1, K).

    `is_own`: queries and keys are of the same sequence, as many of the one as of the other.
    """

    sees: torch.Tensor
    is_own: bool


def attentions(graph: LossGraph, embedding: Any, batch: int, length: int) -> Iterator[Attention]:
    """Yield the attentions over the positions of a sequence, of what was made of its embedding."""
    made_of = graph.reaching({embedding})
    for node in graph.nodes:
        name: str = node.name()
        if node not in made_of:
            continue
        if name in SOFTMAX:
            sees, is_own = _by_weights(node, length), True
        elif name.startswith(FUSED):
            sees, is_own = _fused(node, length)
        else:
            continue
        is_own = is_own and all(each in made_of for each in _operands(node))
        by_sample = None if sees is None else _by_sample(sees, batch)
        if by_sample is not None:
            yield Attention(by_sample.expand(-1, length if is_own else -1, -1), is_own)


def sees_targets(graph: LossGraph, targets: TokenTargets) -> bool:
    """Return whether each target is a token that attention shows the model: the next one, where no
    attention is causal.
    """
    batch, length = targets.tokens.shape
    width = min(targets.counts.shape[1], length - 1)
    counts = targets.counts[:, :width]
    num = 0
    # one by one: mostly the first is causal, which settles it
    for each in attentions(graph, targets.embedding, batch, length):
        num += 1
        if not each.is_own:
            return False
        ahead = each.sees.diagonal(1, 1, 2)[:, :width].expand_as(counts)
        if not float(ahead[counts].double().mean()) > MOST:
            return False
    return num > 0


def is_causal(graph: LossGraph, targets: TokenTargets) -> bool:
    """Return whether there is attention, and none of it sees what is ahead."""
    batch, length = targets.tokens.shape
    found = list(attentions(graph, targets.embedding, batch, length))
    return bool(found) and all(each.is_own and not bool(each.sees.triu(1).any()) for each in found)


def sees_padding_only(graph: LossGraph) -> bool:
    """Return whether an attention sees the padding and nothing else: tokens of one kind, which all
    others are masked for.
    """
    for embedding, given in embedded_tokens(graph):
        for tokens in (given, given.T):
            batch, length = tokens.shape
            if batch > 1 and length >= MIN_LENGTH:
                padding = int(embedding._saved_padding_idx)
                for each in islice(attentions(graph, embedding, batch, length), MAX_ATTENTIONS):
                    seen = each.sees.any(1).expand(batch, length)
                    if _is_padding(tokens, seen, padding):
                        return True
    return False


def _is_padding(tokens: torch.Tensor, seen: torch.Tensor, padding: int) -> bool:
    shown, hidden = kinds(tokens[seen]), kinds(tokens[~seen])
    if len(shown) != 1 or len(hidden) < MIN_DISTINCT or shown & hidden:
        return False
    # what is seen in each sequence at the same places may be a token to summarise it in
    return shown == {padding} or bool((seen != seen[:1]).any())


def _fused(node: Any, length: int) -> tuple[torch.Tensor | None, bool]:
    """Return what one of torch's own attentions sees, as its mask says  # (…, Q, K); and whether it
    has as many queries as keys.
    """
    query, key = saved(node, "query"), saved(node, "key")
    if query is None or key is None or key.dim() != 4 or key.shape[2] != length:
        return None, False
    is_own = query.shape[2] == length
    name = next((name for name in MASKS if hasattr(node, f"_saved_{name}")), "")
    if getattr(node, "_saved_is_causal", False):
        sees = torch.ones(length, length, dtype=torch.bool, device=key.device).tril()
    elif not name or getattr(node, f"_saved_{name}") is None:
        sees = torch.ones(1, length, dtype=torch.bool, device=key.device)
    else:
        mask = saved(node, name)
        if mask is None or mask.numel() > MAX_SCALARS or mask.shape[-1] != length:
            return None, False
        sees = mask if mask.dtype == torch.bool else mask > MASKED
    return sees, is_own


def _operands(node: Any) -> Iterator[Any]:
    """Yield the nodes that made the queries and the keys; none where the graph does not show the
    product of both.
    """
    for _ in range(MAX_BETWEEN):
        name: str = node.name()
        if name.startswith(FUSED) or name in PRODUCTS:
            first = len(node.next_functions) == 3 and name in PRODUCTS  # of a sum with a product
            yield from (each for each, _ in node.next_functions[first : first + 2])
            return
        node = next((each for each, _ in node.next_functions if each is not None), None)
        if node is None:
            return


def _by_weights(node: Any, length: int) -> torch.Tensor | None:
    """Return what an attention sees, as its weights say  # (…, Q, K)."""
    weights = saved(node, "result")
    dim = int(node._saved_dim)
    if (
        weights is None
        or weights.dim() < 3
        or weights.numel() > MAX_SCALARS
        or weights.shape[-1] != length
        or weights.shape[-2] != length
        or dim not in (weights.dim() - 1, (1 << 64) - 1, -1)
    ):
        return None
    return weights > 0


def _by_sample(sees: torch.Tensor, batch: int) -> torch.Tensor | None:
    """Join the heads  # (B or B·H or B, H, …, Q, K) -> (B or 1, Q, K)."""
    if sees.dim() == 2:
        return sees[None]
    first = sees.shape[0]
    if first not in (1, batch) and first % batch:
        return None
    size = 1 if first == 1 else batch
    return sees.reshape(size, -1, *sees.shape[-2:]).any(1)
