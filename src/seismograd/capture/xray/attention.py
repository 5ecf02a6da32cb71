"""Measure the weights of an attention on a bounded number of its rows: the largest logit, and the
entropy as a share of that of equal weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seismograd.tensors.isolation import without_user_modes

MAX_BATCH, MAX_ROWS, MAX_KEYS = 4, 64, 4096


def of_query_and_key(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Return the largest logit and the share of entropy of an attention of queries
    # (..., H, L, E) and keys  # (..., H, S, E); `None` where its rows are too long.
    """
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    if num_keys > MAX_KEYS or not num_keys or not num_queries or query.dim() < 2:
        return None
    with without_user_modes():
        rows = _evenly(num_queries, MAX_ROWS, query.device)
        if query.dim() > 2:
            query, key = query[:MAX_BATCH], key[:MAX_BATCH]
        if query.dim() > 2 and query.shape[-3] != key.shape[-3]:  # grouped queries
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        some = query.detach().index_select(-2, rows).float()
        by = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        logits = some @ key.detach().float().transpose(-2, -1) * by
        if is_causal:
            allowed = rows[:, None] >= torch.arange(num_keys, device=rows.device)
            logits = logits.masked_fill(~allowed, -math.inf)
        if mask is not None:
            logits = _masked(logits, mask, rows, num_queries)
        return _measured(logits)


def of_module(module: Any, query: Tensor, key: Tensor, options: dict[str, Any]) -> Any:
    """Return the same of a call of `nn.MultiheadAttention`, whose queries and keys are projected
    here for these rows.
    """
    if query.is_nested or query.dim() not in (2, 3):
        return None
    with without_user_modes():
        width, heads = module.embed_dim, module.num_heads
        if query.dim() == 2:
            query, key = query[None], key[None]
        elif not module.batch_first:
            query, key = query.transpose(0, 1), key.transpose(0, 1)
        query, key = query[:MAX_BATCH].detach(), key[:MAX_BATCH].detach()
        if module.in_proj_weight is not None:
            of_query, of_key, _ = module.in_proj_weight.split(width)
        else:
            of_query, of_key = module.q_proj_weight, module.k_proj_weight
        bias: Tensor | None = module.in_proj_bias
        by_query = None if bias is None else bias[:width]
        by_key = None if bias is None else bias[width : 2 * width]
        queries = _projected(query, of_query, by_query, heads)
        keys = _projected(key, of_key, by_key, heads)
        mask = options.get("attn_mask")
        padding = options.get("key_padding_mask")
        if padding is not None:
            padding = padding if padding.dim() == 2 else padding[None]
            hidden = padding[:MAX_BATCH]
            if hidden.dtype is not torch.bool:
                hidden = hidden == -math.inf
            shown = ~hidden[:, None, None, :]
            if mask is None:
                mask = shown
            else:
                mask = _as_bias(~mask if mask.dtype is torch.bool else mask)
                mask = _per_head(mask, heads)
                mask = mask[:MAX_BATCH] + _as_bias(shown)
        elif mask is not None:
            mask = _per_head(~mask if mask.dtype is torch.bool else mask, heads)
    return of_query_and_key(queries, keys, mask)


def _projected(given: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Return what an attention projects its input to  # (N, L, E) -> (N, H, L, E / H). Not by
    `F.linear`: a patch of the program's may be at it.
    """
    product = given.to(weight.dtype) @ weight.detach().T
    if bias is not None:
        product = product + bias.detach()
    return product.reshape(*product.shape[:-1], heads, -1).transpose(1, 2)


def _per_head(mask: Tensor, heads: int) -> Tensor:
    """Return a mask of `(L, S)` or `(N * H, L, S)` as one of four dimensions."""
    return mask.reshape(-1, heads, *mask.shape[1:]) if mask.dim() == 3 else mask[None, None]


def _as_bias(mask: Tensor) -> Tensor:
    if mask.dtype is not torch.bool:
        return mask.float()
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -math.inf)


def _masked(logits: Tensor, mask: Tensor, rows: Tensor, num_queries: int) -> Tensor:
    """Return the logits where the mask (true: allowed, or what is added) shows them."""
    if mask.dim() > 2:
        mask = mask[:MAX_BATCH]
    if mask.shape[-2] == num_queries:
        mask = mask.index_select(-2, rows)
    if mask.dtype is torch.bool:
        return logits.masked_fill(~mask, -math.inf)
    return logits + mask.detach().float()


def _measured(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest magnitude of what is not masked, and the mean over rows with at least two
    keys of their entropy over that of equal weights.
    """
    shown = logits != -math.inf
    largest = torch.where(shown, logits.abs(), torch.zeros_like(logits)).amax()
    weights = torch.softmax(logits, -1)
    # zero weights have no logarithm, and add nothing
    entropy = -(weights * weights.clamp(min=1e-30).log()).sum(-1)
    most = shown.sum(-1).clamp(min=1).float().log()
    counted = most > 0
    share = torch.where(counted, entropy / most.clamp(min=1e-9), torch.zeros_like(entropy))
    return largest, share.sum() / counted.sum()


def _evenly(num: int, most: int, device: torch.device) -> Tensor:
    """Return up to `most` of so many positions, evenly spread, the last included."""
    if num <= most:
        return torch.arange(num, device=device)
    return torch.linspace(0, num - 1, most, device=device, dtype=torch.float64).round().long()
