from __future__ import annotations

import numpy as np
import pytest

from seismograd.analysis.added_factors import added_factors
from seismograd.analysis.profile_layers import chains_of
from seismograd.schema import Parameter

Shapes = dict[str, tuple[int, ...]]


def model(frozen: Shapes, trained: Shapes) -> tuple[Parameter, ...]:
    named = [(name, shape, False) for name, shape in frozen.items()]
    named += [(name, shape, True) for name, shape in trained.items()]
    return tuple(
        Parameter(name, shape, "float32", int(np.prod(shape)), "Linear", trainable=trains)
        for name, shape, trains in named
    )


FACTORS: dict[str, tuple[Shapes, Shapes]] = {
    "as peft names them": (
        {"up.base_layer.weight": (48, 20)},
        {"up.lora_A.default.weight": (4, 20), "up.lora_B.default.weight": (48, 4)},
    ),
    "two adapters at once": (
        {"up.base_layer.weight": (48, 20)},
        {
            "up.first.down.weight": (4, 20),
            "up.first.up.weight": (48, 4),
            "up.second.down.weight": (8, 20),
            "up.second.up.weight": (48, 8),
        },
    ),
    "own parameters, transposed": (
        {"block.2.linear.weight": (48, 20)},
        {"block.2.a": (20, 3), "block.2.b": (3, 48)},
    ),
    "in the layer itself": (
        {"block.2.weight": (48, 20)},
        {"block.2.b": (48, 3), "block.2.a": (3, 20)},
    ),
    "of a convolution": (
        {"conv.base.weight": (32, 16, 3, 3)},
        {"conv.down.weight": (2, 16, 3, 3), "conv.up.weight": (32, 2, 1, 1)},
    ),
    "into a part of the frozen weight": (
        {"attn.qkv.weight": (60, 20), "attn.out.weight": (20, 20)},
        {"attn.lora_q_a.weight": (4, 20), "attn.lora_q_b.weight": (20, 4)},
    ),
    "adapters behind frozen layers": (
        {"block.ff.weight": (20, 20), "block.out.weight": (20, 20)},
        {"block.adapter.down.weight": (4, 20), "block.adapter.up.weight": (20, 4)},
    ),
}
LAYERS: dict[str, tuple[Shapes, Shapes]] = {
    "a bottleneck among trained layers": (
        {"net.0.weight": (20, 20)},
        {"net.2.weight": (4, 20), "net.4.weight": (20, 4), "net.6.weight": (3, 20)},
    ),
    "a head of two layers over frozen ones": (
        {"trunk.0.weight": (20, 20), "trunk.2.weight": (20, 20)},
        {"head.0.weight": (4, 20), "head.2.weight": (20, 4)},
    ),
    "no lower rank": (
        {"gate.base.weight": (20, 20)},
        {"gate.one.weight": (20, 20), "gate.two.weight": (20, 20)},
    ),
    "nothing is frozen": (
        {},
        {"adapter.0.weight": (4, 20), "adapter.2.weight": (20, 4)},
    ),
    "an odd number": (
        {"cell.base.weight": (48, 20)},
        {"cell.a.weight": (4, 20), "cell.b.weight": (48, 4), "cell.c.weight": (9, 48)},
    ),
}


@pytest.mark.parametrize(("frozen", "trained"), FACTORS.values(), ids=FACTORS)
def test_what_only_adds_to_frozen_weights_is_no_layer(frozen: Shapes, trained: Shapes) -> None:
    parameters = model(frozen, {**trained, "head.weight": (5, 20)})
    assert added_factors(parameters) == set(trained)
    assert [layers.names for layers in chains_of(parameters)] == [("head.weight",)]


@pytest.mark.parametrize(("frozen", "trained"), LAYERS.values(), ids=LAYERS)
def test_layers_that_look_like_it_are_layers(frozen: Shapes, trained: Shapes) -> None:
    parameters = model(frozen, trained)
    assert added_factors(parameters) == set()
    assert chains_of(parameters)[0].names == tuple(trained)


def test_a_model_of_nothing_but_factors_has_a_chain_without_layers() -> None:
    parameters = model(*FACTORS["as peft names them"])
    assert [len(layers) for layers in chains_of(parameters)] == [0]
