"""SG804 wrong-attention-mask."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import Message, say
from seismograd.parsed_source import parsed
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class WrongAttentionMask(FactRule):
    """Attention sees the token that it has to predict, or nothing but the padding.

    What it finds
        A language model that learns to predict the next token without a causal mask, and a mask of
        the padding that is inverted: `key_padding_mask` of `nn.MultiheadAttention` and
        `nn.TransformerEncoder` is `True` where a token is to be ignored, `attention_mask` of
        transformers is 1 where it is to be seen.

    Why it hurts
        Without a causal mask the model copies the next token, and its loss is nearly zero; when it
        generates, there is nothing to copy. With an inverted mask the model never sees its input.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later: the tokens that an embedding looked up, the targets of the cross
        entropy, and the masks or the weights of each attention that is computed from these tokens.
        One check is enough, from step number {min_evaluated} on. There is no causal mask if all
        targets are the tokens that come next and every attention lets their positions see them. A
        mask is inverted if all that is seen is tokens of one kind, of which none is hidden.

    False alarms
        None known.

    What to try
        - Pass `is_causal=True` to `F.scaled_dot_product_attention`, or
          `nn.Transformer.generate_square_subsequent_mask(length)` as `mask` to
          `nn.TransformerEncoder`.
        - Print the mask beside the tokens of one sample.
        - Change the token at one position: the outputs before it must stay as they are.

    References
        - Vaswani et al. (2017), Attention is all you need: masking in the decoder.
        - PyTorch documentation, torch.nn.MultiheadAttention.
    """

    code: ClassVar[str] = "SG804"
    name: ClassVar[str] = "wrong-attention-mask"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.ATTENTION_MASK,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG109")

    min_evaluated: int = 1  # steps

    def judge(self, fact: Fact) -> None:
        cause, advice, excerpt = _words(fact)
        self.found.add_or_extend(
            self.finding_of_fact(
                fact,
                cause,
                advice,
                excerpt,
                evidence=(Evidence("attention_mask", "", fact.iteration, 1.0, 0.0),),
            )
        )


def _words(fact: Fact) -> tuple[Message, Message, str]:
    line, text = fact.text("place") or fact.where or "?", fact.text("text")
    if fact.text("fault") == "padding only":
        return (
            say(
                "the mask of the padding at {line} is inverted: attention sees only the padding, "
                "and none of the tokens of the input",
                line=line,
            ),
            say(
                "invert it: key_padding_mask of nn.MultiheadAttention and nn.TransformerEncoder is "
                "True where a token is to be ignored; attention_mask of transformers is 1 where it "
                "is to be seen"
            ),
            _inverted(text) or "src_key_padding_mask = tokens == padding  # True: ignored",
        )
    is_call = "scaled_dot_product_attention(q, k, v)" in text
    return (
        say(
            "attention in front of the loss at {line} has no causal mask: each position sees the "
            "next token, which is its target, so the model learns to copy it; when it generates, "
            "it cannot",
            line=fact.where or "?",
        ),
        say(
            "mask what lies ahead: is_causal=True for F.scaled_dot_product_attention, a causal "
            "mask for nn.TransformerEncoder"
        ),
        text.replace("(q, k, v)", "(q, k, v, is_causal=True)")
        if is_call
        else "y = F.scaled_dot_product_attention(q, k, v, is_causal=True)",
    )


def _inverted(text: str) -> str:
    """Return a statement with the mask of the padding that it passes inverted; empty where it
    passes none, or one of 0 and 1.
    """
    tree = parsed(text)
    if tree is None:
        return ""
    masks = [
        keyword
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg is not None and keyword.arg.endswith("key_padding_mask")
    ]
    for mask in masks:
        mask.value = ast.UnaryOp(ast.Invert(), mask.value)
    return ast.unparse(tree) if masks else ""
