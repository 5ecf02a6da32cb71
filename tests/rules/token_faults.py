"""Losses over tokens: with targets in the wrong place or a mask that is wrong, and right ones that
look like them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import Listen, Program, adam

VOCABULARY, BATCH, LENGTH, PAD = 12, 6, 10, 0
FUTURE = nn.Transformer.generate_square_subsequent_mask(LENGTH)


def sentences(step: int, length: int = LENGTH) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(1, VOCABULARY, (BATCH, length), generator=generator)


def padded(step: int) -> Tensor:
    """Sentences of several lengths."""
    tokens = sentences(step)
    lengths = torch.arange(BATCH) + LENGTH - BATCH
    return tokens.masked_fill(torch.arange(LENGTH) >= lengths[:, None], PAD)


class Tokens(nn.Module):
    """A transformer over tokens, with torch's layers or written by hand, and a head over tokens."""

    def __init__(self, dropout: float = 0.0, padding: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, 8, padding_idx=padding)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, VOCABULARY)
        self.gru = nn.GRU(8, 8, batch_first=True)

    def encoded(self, tokens: Tensor, future: bool = False, hidden: Tensor | None = None) -> Tensor:
        mask = FUTURE if future else None
        return self.head(self.layers(self.embed(tokens), mask=mask, src_key_padding_mask=hidden))

    def weighted(self, tokens: Tensor, future: bool) -> Tensor:
        """By an attention that gives its weights."""
        x = self.embed(tokens)
        return self.head(x + self.attention(x, x, x, attn_mask=FUTURE if future else None)[0])

    def by_hand(self, tokens: Tensor, future: bool) -> Tensor:
        q, k, v = self.qkv(self.embed(tokens)).chunk(3, -1)
        scores = q @ k.transpose(1, 2)
        if future:
            scores = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1) == 1, float("-inf"))
        return self.head(scores.softmax(-1) @ v)

    def fused(self, tokens: Tensor, future: bool) -> Tensor:
        q, k, v = (each.unsqueeze(1) for each in self.qkv(self.embed(tokens)).chunk(3, -1))
        return self.head(F.scaled_dot_product_attention(q, k, v, is_causal=future).squeeze(1))


LossOf = Callable[[Tokens, int], Tensor]


def ahead(logits: Tensor, step: int, offset: int = 1) -> Tensor:
    """The loss of predicting the token so many positions ahead, the last ones left out."""
    target = F.pad(sentences(step)[:, offset:], (0, offset), value=-100)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def classified(logits: Tensor, step: int) -> Tensor:
    return F.cross_entropy(logits.mean(1), sentences(step)[:, 0])


def not_causal(name: str) -> LossOf:
    return lambda m, step: ahead(getattr(m, name)(sentences(step), False), step)


def causal(name: str) -> LossOf:
    return lambda m, step: ahead(getattr(m, name)(sentences(step), True), step)


def shifted_before(m: Tokens, step: int) -> Tensor:
    """Inputs and targets cut from one sentence, over classes in the second dimension."""
    tokens = sentences(step, LENGTH + 1)
    return F.cross_entropy(m.encoded(tokens[:, :-1]).movedim(-1, 1), tokens[:, 1:])


def masked_words(m: Tokens, step: int) -> Tensor:
    """As BERT is trained: the words at hidden places, from both sides."""
    tokens = sentences(step)
    is_hidden = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(step)) < 0.7
    logits = m.encoded(tokens.masked_fill(is_hidden, PAD))
    return F.cross_entropy(logits.flatten(0, 1), tokens.where(is_hidden, -100).flatten())


def two_heads(m: Tokens, step: int) -> Tensor:
    """The next token and the one after it."""
    logits = m.encoded(sentences(step), True)
    return ahead(logits, step) + 0.3 * ahead(logits, step, 2)


def with_encoder(m: Tokens, step: int) -> Tensor:
    """An encoder that sees all of the sentence, and a decoder in which attention is causal."""
    tokens = sentences(step)
    summary = m.layers(m.embed(tokens)).mean(1, keepdim=True)
    x = m.embed(tokens) + summary
    return ahead(m.head(x + m.attention(x, x, x, attn_mask=FUTURE)[0]), step)


def tied(m: Tokens, step: int) -> Tensor:
    """One lookup of the tokens for an encoder and for a decoder, which sees what is encoded."""
    x = m.embed(sentences(step))
    memory = m.layers(x)
    x = x + m.attention(x, x, x, attn_mask=FUTURE)[0]
    return ahead(m.head(x + m.attention(x, memory, memory)[0]), step)


def source_attended(fused: bool) -> LossOf:
    """A recurrent decoder whose only attention is to a source as long as its own sentence."""

    def loss_of(m: Tokens, step: int) -> Tensor:
        memory = m.gru(m.embed(sentences(step + 1)))[0]
        x = m.gru(m.embed(sentences(step)))[0]
        if fused:
            q, k = x.unsqueeze(1), memory.unsqueeze(1)
            x = x + F.scaled_dot_product_attention(q, k, k).squeeze(1)
        else:
            x = x + (x @ memory.transpose(1, 2)).div(8**0.5).softmax(-1) @ memory
        return ahead(m.head(x), step)

    return loss_of


def fused_with(mask: Tensor, since: int = 0) -> LossOf:
    """The loss of the tokens from some position on, by an attention with a mask of its own."""

    def loss_of(m: Tokens, step: int) -> Tensor:
        q, k, v = (each.unsqueeze(1) for each in m.qkv(m.embed(sentences(step))).chunk(3, -1))
        logits = m.head(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).squeeze(1))
        target = F.pad(sentences(step)[:, 1:], (0, 1), value=-100)
        target[:, :since] = -100
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())

    return loss_of


PLACE = torch.arange(LENGTH)
BEFORE = PLACE[:, None] >= PLACE  # (queries, keys): at or before the query
APART = (PLACE[:, None] - PLACE).abs()


def to_the_first(m: Tokens, step: int) -> Tensor:
    """Attention to a token at the front only, in which a sentence is summarised."""
    tokens = sentences(step).clamp(min=2)
    tokens[:, 0] = 1
    hidden = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    hidden[:, 0] = False
    return classified(m.encoded(tokens, hidden=hidden), step)


FAULTY: dict[str, tuple[str, LossOf]] = {
    "no mask": ("not causal", not_causal("encoded")),
    "no mask, cut before": ("not causal", shifted_before),
    "no mask, with weights": ("not causal", not_causal("weighted")),
    "no mask, by hand": ("not causal", not_causal("by_hand")),
    "no mask, fused": ("not causal", not_causal("fused")),
    "inverted": (
        "padding only",
        lambda m, step: classified(m.encoded(padded(step), hidden=padded(step) != PAD), step),
    ),
    "shifted twice": (
        "tokens two ahead",
        lambda m, step: ahead(m.encoded(sentences(step), True), step, 2),
    ),
    "not shifted": (
        "tokens of its input",
        lambda m, step: ahead(m.encoded(sentences(step), True), step, 0),
    ),
}
HEALTHY: dict[str, LossOf] = {
    "causal": causal("encoded"),
    "causal, with weights": causal("weighted"),
    "causal, by hand": causal("by_hand"),
    "causal, fused": causal("fused"),
    "masked words": masked_words,
    "an autoencoder": lambda m, step: ahead(m.encoded(sentences(step)), step, 0),
    "two heads": two_heads,
    "with an encoder": with_encoder,
    "padding hidden": lambda m, step: classified(
        m.encoded(padded(step), hidden=padded(step) == PAD), step
    ),
    "to the first": to_the_first,
    "tied tokens": tied,
    "attention to a source": source_attended(fused=False),
    "attention to a source, fused": source_attended(fused=True),
    "prefix": fused_with(BEFORE | (PLACE < 4), since=3),
    "packed": fused_with(BEFORE & (PLACE[:, None] // 5 == PLACE // 5)),
    "sliding window": fused_with(BEFORE & (APART < 3)),
    "slopes by distance": fused_with((-0.5 * APART).masked_fill(~BEFORE, float("-inf"))),
}


def trained(loss_of: LossOf, steps: int = 6) -> Program:
    def program(listen: Listen) -> None:
        model = Tokens()
        del model.attention, model.qkv, model.gru
        optimizer = adam(model)
        with listen(model, optimizer):
            for step in range(steps):
                optimizer.zero_grad()
                loss_of(model, step).backward()
                optimizer.step()

    return program
