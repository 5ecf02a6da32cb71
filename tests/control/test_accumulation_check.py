"""On a model of the user's own: how far accumulation is from the batch, and what of the model
makes it so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seismograd
from seismograd.control.accumulate.state_guard import num_samples, take_samples
from tests.control.models import batches, mean_loss, net


def with_layer(layer: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), layer, nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def batch_of(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return batches([count], dtype)[0]


def kinds(compared: seismograd.AccumulationComparison) -> list[str]:
    return [cause.kind for cause in compared.causes]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_of_a_plain_model_and_equal_parts_there_is_nothing_to_say(dtype: torch.dtype) -> None:
    compared = seismograd.compare_accumulation(net(dtype), mean_loss, batch_of(32, dtype), steps=4)
    assert kinds(compared) == []
    assert compared.error < 1e3 * torch.finfo(dtype).eps
    assert compared.parameters == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert compared.cosines.tolist() == pytest.approx([1] * 4, abs=1e-3)


def test_parts_of_different_size_are_named_and_weighting_mends_them() -> None:
    compared = seismograd.compare_accumulation(net(), mean_loss, batch_of(7), steps=3)
    assert kinds(compared) == ["weights"]
    assert compared.error > 1e-3
    assert compared.weighted_error < 1e-12
    assert compared.causes[0].error == pytest.approx(compared.error)


def test_targets_that_do_not_count_are_seen_in_the_graph() -> None:
    inputs, targets = batch_of(12)
    targets[:3] = -1  # three of the first part's four
    compared = seismograd.compare_accumulation(net(), mean_loss, (inputs, targets), steps=3)
    assert kinds(compared) == ["weights"]
    assert compared.weighted_error < 1e-12


def test_a_weight_of_ones_own_is_used() -> None:
    inputs, targets = batch_of(12)
    targets[:3] = -1

    def by_hand(model: nn.Module, batch: Any) -> Tensor:
        kept = batch[1] >= 0
        return (
            -F.log_softmax(model(batch[0]), 1)[torch.arange(len(kept)), batch[1].clamp(min=0)][
                kept
            ].sum()
            / kept.sum().clone()
        )

    compared = seismograd.compare_accumulation(
        net(), by_hand, (inputs, targets), 3, weight=lambda part: int((part[1] >= 0).sum())
    )
    assert compared.weighted_error < 1e-12


@pytest.mark.parametrize(
    ("layer", "kind"), [(nn.BatchNorm1d(7), "batch norm"), (nn.Dropout(0.3), "dropout")]
)
def test_a_layer_that_makes_the_difference_is_named(layer: nn.Module, kind: str) -> None:
    compared = seismograd.compare_accumulation(with_layer(layer), mean_loss, batch_of(32), steps=4)
    assert kinds(compared) == [kind]
    assert "(1)" in compared.causes[0].message.render()
    assert compared.error > 1e-2
    assert compared.rounding < 1e-12
    assert compared.causes[0].message.render() in str(compared)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(7).eval(), nn.Dropout(0.0), nn.LayerNorm(7)])
def test_a_layer_that_makes_none_is_not(layer: nn.Module) -> None:
    assert (
        kinds(seismograd.compare_accumulation(with_layer(layer), mean_loss, batch_of(32), steps=4))
        == []
    )


def test_several_causes_are_told_apart() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Dropout(0.2), nn.Linear(7, 3)
    ).double()
    compared = seismograd.compare_accumulation(model, mean_loss, batch_of(30), steps=4)
    assert sorted(kinds(compared)) == ["batch norm", "dropout", "weights"]
    assert [cause.error for cause in compared.causes] == sorted(
        (cause.error for cause in compared.causes), reverse=True
    )


class FunctionalDropout(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, training=self.training)


def summed(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")


def contrastive(model: nn.Module, batch: Any) -> Tensor:
    outputs = F.normalize(model(batch[0]), dim=1)
    return F.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


@pytest.mark.parametrize(
    ("model", "loss", "kind"),
    [
        (with_layer(FunctionalDropout()), mean_loss, "training mode"),
        (net(), summed, "loss"),
        (net(), contrastive, "loss"),
    ],
)
def test_what_is_none_of_these_is_said_to_be_something_else(
    model: nn.Module, loss: Callable[..., Tensor], kind: str
) -> None:
    assert kinds(seismograd.compare_accumulation(model, loss, batch_of(16), steps=4)) == [kind]


def test_nothing_is_left_behind() -> None:
    model = with_layer(nn.Sequential(nn.BatchNorm1d(7), nn.Dropout(0.3)))
    mean_loss(model, batch_of(8)).backward()
    gradients, before = [p.grad for p in model.parameters()], copy.deepcopy(model.state_dict())
    values = [None if g is None else g.clone() for g in gradients]
    random, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    seismograd.compare_accumulation(model, mean_loss, batch_of(16), steps=4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(
        torch.equal(g, v)
        for g, v in zip(gradients, values, strict=True)
        if g is not None and v is not None
    )
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in model.modules()] == modes


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_parts_that_cannot_be_are_refused(steps: int) -> None:
    with pytest.raises(seismograd.SeismogradError):
        seismograd.compare_accumulation(net(), mean_loss, batch_of(8), steps=steps)


def test_a_batch_is_cut_in_all_its_tensors_whatever_holds_them() -> None:
    batch = {
        "x": torch.arange(6),
        "y": (torch.arange(6) * 2, [torch.arange(12).reshape(6, 2)]),
        "name": "train",
        "scale": torch.tensor(3.0),
    }
    assert num_samples(batch) == 6
    part = take_samples(batch, torch.tensor([4, 0]))
    assert part["x"].tolist() == [4, 0]
    assert part["y"][0].tolist() == [8, 0]
    assert part["y"][1][0].tolist() == [[8, 9], [0, 1]]
    assert (part["name"], part["scale"].item()) == ("train", 3.0)
    for wrong in ({}, [torch.ones(3), torch.ones(4)], "text"):
        with pytest.raises(seismograd.SeismogradError):
            num_samples(wrong)
