"""The shapes of the models that are measured."""

from __future__ import annotations

Shape = tuple[int, ...]


def gpt(width: int, num_layers: int, vocabulary: int, context: int) -> list[Shape]:
    """As GPT-2 has them: embeddings, `num_layers` of 12 parameters each, a last normalisation."""
    norm = [(width,), (width,)]
    attention = [(width, 3 * width), (3 * width,), (width, width), (width,)]
    mlp = [(width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [
        (vocabulary, width),
        (context, width),
        *num_layers * [*norm, *attention, *norm, *mlp],
        *norm,
    ]


GPT2_SMALL = gpt(768, 12, 50257, 1024)  # 124 M in 148 tensors
GPT_17M = gpt(384, 8, 8192, 256)  # in 100 tensors
MLP: list[Shape] = [(256, 784), (256,), (10, 256), (10,)]
MANY_SMALL: list[Shape] = [(64, 64), (64,)] * 500
