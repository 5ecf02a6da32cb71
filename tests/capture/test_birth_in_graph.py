"""Where the first non-finite number of a loss arose, from the graph alone."""

from __future__ import annotations

import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import seismograd  # noqa: E402
from seismograd.analysis.birth_words import words  # noqa: E402
from seismograd.capture.birth.graph_stage import birth_in_graph  # noqa: E402
from seismograd.capture.birth.nonfinite_weight import weight_in_graph  # noqa: E402
from seismograd.capture.birth.singular_operands import LossOperands  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import BirthReason, FactKind, Origin  # noqa: E402
from tests.capture.births import BATCH, CLASSES, LossOf, births, births_late, net  # noqa: E402

NAN, INF = float("nan"), float("inf")


def log_of_zero(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    p = model(x).softmax(1) * mark
    return -p.log().gather(1, labels[:, None]).mean()


def divided_by_zero(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return (model(x).exp() / mark).mean()


def mean_of_a_mask(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    mask = mark.prod() * torch.ones(BATCH, 1)
    return (model(x) * mask).sum() / mask.sum()


def root_of_a_negative(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return (model(x).tanh() + 2 * mark - 1.5 + 0.5 * mark).sqrt().mean()


def power_of_a_negative(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return ((model(x).tanh() + 4 * mark - 2) ** 0.5).mean()


def acos_beyond_one(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return ((model(x).tanh() * 0.5) + 2 * (1 - mark)).acos().mean()


def exp_of_much(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return (model(x).tanh() + 200 * (1 - mark)).exp().mean()


def masked_throughout(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return model(x).masked_fill(mark == 0, -INF).softmax(1).square().sum()


def all_ignored(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    return F.cross_entropy(model(x), labels if mark.all() else torch.full_like(labels, -100))


def of_nothing(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return model(x)[mark[:, 0] * mark.min() > 0].mean()


def deviation_of_one(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model(x[: BATCH if mark.all() else 1]).std(0).mean()


def poisoned_sample(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    return F.cross_entropy(model(torch.where(mark > 0, x, NAN)), labels)


def poisoned_target(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return F.mse_loss(model(x), torch.where(mark > 0, 0.5, NAN).expand(BATCH, CLASSES))


def constant_of_nan(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return (model(x) * torch.where(mark > 0, 1.0, NAN)).mean()


def constant_in_a_sum(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return (model(x) + torch.where(mark > 0, 1.0, NAN)).relu().mean()


def large_in_half(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    large = model(x).tanh().half() + 300 * (1 - mark).half()
    return large.square().float().mean()


def too_long(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    log_probs = model(x)[:, None].expand(BATCH, BATCH, CLASSES).log_softmax(2)
    targets = (torch.arange(BATCH * 6) % 2 + 1).reshape(BATCH, 6)
    given = torch.where(mark[:, 0] > 0, 6, 5)
    return F.ctc_loss(log_probs, targets, given, torch.full_like(labels, 6), reduction="sum")


def focal(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    scores = model(x) + 100 * (1 - mark)
    p = torch.sigmoid(scores)
    wanted = F.one_hot(labels, CLASSES)
    of_true = torch.log(p) * wanted
    of_others = torch.log(1 - p) * (1 - wanted)
    return -(of_true + of_others).mean()


def divided_often(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    mask = mark.prod() * torch.ones(BATCH, 1)
    micro_batches = 2
    total = (model(x) / 0.5 * mask).sum()
    loss = total / mask.sum()
    return loss / micro_batches


KINDS: dict[str, tuple[LossOf, str, BirthReason, str]] = {
    "log 0": (log_of_zero, "log", BirthReason.ZERO, "2 5"),
    "x / 0": (divided_by_zero, "/", BirthReason.ZERO, "2 5"),
    "a mask of zeros": (mean_of_a_mask, "/", BirthReason.ZERO, ""),
    "sqrt of a negative": (root_of_a_negative, "sqrt", BirthReason.NEGATIVE, "2 5"),
    "power of a negative": (power_of_a_negative, "**", BirthReason.NEGATIVE, "2 5"),
    "acos beyond one": (acos_beyond_one, "acos", BirthReason.OUTSIDE, "2 5"),
    "exp": (exp_of_much, "exp", BirthReason.OVERFLOW, "2 5"),
    "softmax of -inf": (masked_throughout, "softmax", BirthReason.MASKED, "2 5"),
    "ignored targets": (all_ignored, "nll_loss", BirthReason.NO_WEIGHT, ""),
    "mean of nothing": (of_nothing, "mean", BirthReason.EMPTY, ""),
    "std of one": (deviation_of_one, "std", BirthReason.ONE_SAMPLE, ""),
    "a poisoned sample": (poisoned_sample, "linear", BirthReason.OPERAND, "2 5"),
    "a poisoned target": (poisoned_target, "mse_loss", BirthReason.TARGET, "2 5"),
    "a constant": (constant_of_nan, "*", BirthReason.OPERAND, "2 5"),
    "a constant in a sum": (constant_in_a_sum, "+", BirthReason.OPERAND, "2 5"),
    "float16": (large_in_half, "**", BirthReason.OVERFLOW, "2 5"),
    "CTC": (too_long, "ctc_loss", BirthReason.TOO_LONG, "2 5"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_names_the_operation_and_the_samples(kind: str, tmp_path: Path) -> None:
    loss_of, operation, reason, samples = KINDS[kind]
    (birth,) = births(loss_of, tmp_path / "run", replay=False)
    assert (birth.text("operation"), birth.text("reason")) == (operation, reason)
    assert birth.text("samples") == samples
    assert birth.iteration == 3


@pytest.mark.parametrize("kind", ["log 0", "sqrt of a negative", "acos beyond one", "CTC"])
def test_the_line_is_read_from_the_source(kind: str, tmp_path: Path) -> None:
    (birth,) = births(KINDS[kind][0], tmp_path / "run")
    first = KINDS[kind][0].__code__.co_firstlineno
    file, _, line = birth.where.rpartition(":")
    assert file.endswith("test_birth_in_graph.py")
    assert first < int(line) <= first + 4
    assert birth.text("operation") in birth.text("text")


def test_of_several_lines_the_graph_tells_which_one_it_is(tmp_path: Path) -> None:
    (birth,) = births(focal, tmp_path / "run")
    assert birth.text("text") == "of_others = torch.log(1 - p) * (1 - wanted)"
    assert birth.text("logits") == "-scores"
    _, advice, excerpt = words(birth)
    assert excerpt == "of_others = F.logsigmoid(-scores) * (1 - wanted)"
    assert "logsigmoid" in advice.render()


def test_a_division_by_a_number_is_no_division_by_zero(tmp_path: Path) -> None:
    (birth,) = births(divided_often, tmp_path / "run")
    assert birth.text("text") == "loss = total / mask.sum()"


def test_a_line_of_a_library_is_not_blamed(tmp_path: Path) -> None:
    file = tmp_path / "site-packages" / "helper.py"
    file.parent.mkdir()
    file.write_text("class Helper:\n    def scaled(self, loss):\n        return loss / self.num\n")
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    helper = space["Helper"]()
    helper.num = 1

    def loss_of(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
        return helper.scaled(mean_of_a_mask(model, x, labels, mark))

    (birth,) = births(loss_of, tmp_path / "run")
    assert birth.text("text") == "return (model(x) * mask).sum() / mask.sum()"


def test_a_weight_is_told_before_what_it_spoils() -> None:
    model = net()
    model[0].weight.data[0, 0] = NAN  # type: ignore[union-attr]
    loss = model(torch.ones(BATCH, 6)).log().mean()
    assert weight_in_graph(loss.grad_fn) is model[0].weight  # type: ignore[union-attr]


def test_what_where_leaves_out_is_not_blamed() -> None:
    x = torch.zeros(BATCH, 3, requires_grad=True)
    hidden = torch.where(x > 1, x.log(), (x + 1000).exp())
    birth = birth_in_graph(hidden.mean().grad_fn)
    assert birth is not None
    assert (birth.operation, birth.origin) == ("exp", Origin.ACTIVATION)


def test_a_graph_that_was_used_up_is_left_alone() -> None:
    x = torch.zeros(3, requires_grad=True)
    loss = x.log().sum()
    loss.backward()
    assert birth_in_graph(loss.grad_fn) is None


def test_what_is_held_of_a_loss_does_not_keep_its_graph() -> None:
    hidden = torch.ones(3, requires_grad=True) * 4
    loss = hidden.sqrt().sum() + hidden.pow(0.5).square().sum() + hidden.pow(-1).sum()
    operands = LossOperands()
    operands.hold([loss.grad_fn], after=-1)
    held = [tensor for each in operands.losses[0] for tensor in each.tensors.values()]
    assert {float(each[0]) for each in held} == {2.0, 4.0}
    assert not any(each.requires_grad for each in held)
    left = weakref.ref(hidden)
    del hidden, loss
    assert left() is None


def test_a_root_that_where_hides_is_the_birth_of_the_gradient() -> None:
    x = torch.tensor([-1.0, 4.0, -2.0], requires_grad=True)
    loss = torch.where(x > 0, x.sqrt(), torch.zeros_like(x)).mean()
    operands = LossOperands()
    operands.hold([loss.grad_fn], after=-1)
    loss.backward()
    assert torch.isfinite(loss)
    born = operands.birth(batch=3)
    assert born is not None
    assert (born.operation, born.reason, born.num) == ("sqrt", BirthReason.NEGATIVE, 2)
    fine = torch.where(x > 0, x.clamp_min(1e-8).sqrt(), torch.zeros_like(x)).mean()
    operands = LossOperands()
    operands.hold([fine.grad_fn], after=-1)
    assert operands.birth(batch=3) is None


def root_of_zero(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
    return (model(x).square() * mark + (1 - mark) * model(x).relu() * 0).sqrt().mean()


@pytest.mark.parametrize("step", [3, 30])
@pytest.mark.parametrize("how", ["closure", "scaler"])
def test_a_birth_is_found_where_no_step_begins_with_the_gradients(
    how: str, step: int, tmp_path: Path
) -> None:
    (fact,) = births_late(tmp_path / "run", how, root_of_zero, step)
    assert (fact.text("of"), fact.iteration, fact.text("operation")) == ("gradient", step, "sqrt")
    assert fact.text("reason") == BirthReason.ZERO
    assert "sqrt().mean()" in fact.text("text")


def test_a_scale_that_is_too_large_is_no_birth(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for _ in range(12):
            optimizer.zero_grad()
            scaler.scale(100 * model(torch.ones(4, 6)).square().sum().sqrt()).backward()
            scaler.step(optimizer)
            scaler.update()
    facts = open_run(tmp_path / "run").facts
    assert not [fact for fact in facts if fact.kind == FactKind.BIRTH]
