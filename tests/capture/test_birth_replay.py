"""Where the first non-finite number arose, by calling the model once more, which nothing shows."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import random
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import seismograd  # noqa: E402
from seismograd.schema import BirthReason  # noqa: E402
from tests.capture.births import BATCH, CLASSES, STEP, WIDTH, births  # noqa: E402

INF = float("inf")
Middle = Callable[[Tensor, Tensor], Tensor]  # of activations and marks


class Marked(nn.Module):
    """A model with something in its middle that fails for the marked samples."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, 8)
        self.norm = nn.BatchNorm1d(8)
        self.middle = Middling(middle)
        self.last = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        return self.last(self.middle(self.norm(self.first(x)).tanh(), mark))


class Middling(nn.Module):
    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.function = middle

    def forward(self, h: Tensor, mark: Tensor) -> Tensor:
        return self.function(h, mark)


def classify(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    return F.cross_entropy(model(x, mark), labels)


def root(h: Tensor, mark: Tensor) -> Tensor:
    return h + (h * mark).pow(2).sum(1, keepdim=True).sqrt()


def power(h: Tensor, mark: Tensor) -> Tensor:
    return (h.abs() * mark) ** 0.5


def arc(h: Tensor, mark: Tensor) -> Tensor:
    return (h * mark + (1 - mark)).acos()


def hidden(h: Tensor, mark: Tensor) -> Tensor:
    return torch.where(mark > 0, (h + 2 * mark - 1).clamp_min(0).log1p(), (h * mark).abs().log())


def logarithm(h: Tensor, mark: Tensor) -> Tensor:
    return (h.sigmoid() * mark).log()


def large(h: Tensor, mark: Tensor) -> Tensor:
    return (h + 200 * (1 - mark)).exp()


def attention(h: Tensor, mark: Tensor) -> Tensor:
    scores = (h[:, :, None] * h[:, None]).masked_fill(mark[:, :, None] == 0, -INF)
    return (scores.softmax(-1) @ h[:, :, None])[..., 0]


def difference(h: Tensor, mark: Tensor) -> Tensor:
    mask = torch.where(mark > 0, 0.0, -INF)
    return (h + mask) - mask


def quotient(h: Tensor, mark: Tensor) -> Tensor:
    return h / (h.abs().sum(1, keepdim=True) * mark)


KINDS: dict[str, tuple[Middle, str, BirthReason]] = {
    "sqrt": (root, "sqrt", BirthReason.ZERO),
    "power": (power, "**", BirthReason.ZERO),
    "acos": (arc, "acos", BirthReason.OUTSIDE),
    "log": (logarithm, "log", BirthReason.ZERO),
    "exp": (large, "exp", BirthReason.OVERFLOW),
    "softmax": (attention, "softmax", BirthReason.MASKED),
    "inf - inf": (difference, "-", BirthReason.CANCELLED),
    "0 / 0": (quotient, "/", BirthReason.ZERO),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_names_line_module_and_samples(kind: str, tmp_path: Path) -> None:
    middle, operation, reason = KINDS[kind]
    found = births(classify, tmp_path / "run", lambda: Marked(middle))
    (birth,) = found
    assert (birth.text("operation"), birth.text("reason")) == (operation, reason)
    assert (birth.text("stage"), birth.text("module")) == ("replay", "middle")
    assert birth.text("samples") == "2 5"
    first = middle.__code__.co_firstlineno
    file, _, line = birth.where.rpartition(":")
    assert file.endswith("test_birth_replay.py")
    assert first < int(line) <= first + 3


def test_a_poisoned_input_is_told_from_a_constant(tmp_path: Path) -> None:
    def poison(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
        return F.cross_entropy(model(torch.where(mark > 0, x, INF), mark), labels)

    (birth,) = births(poison, tmp_path / "run", lambda: Marked(lambda h, _: h))
    assert (birth.text("reason"), birth.text("samples")) == ("input", "2 5")


def test_without_replays_the_graph_still_names_the_operation(tmp_path: Path) -> None:
    (birth,) = births(classify, tmp_path / "run", lambda: Marked(logarithm), replay=False)
    assert (birth.text("operation"), birth.text("samples")) == ("log", "2 5")
    assert (birth.text("stage"), birth.text("module")) == ("graph", "")


def test_a_loss_behind_the_model_is_read_from_what_it_was_given(tmp_path: Path) -> None:
    def distance(model: nn.Module, x: Tensor, _: Tensor, mark: Tensor) -> Tensor:
        return (model(x, mark) * mark).square().sum(1).sqrt().mean()

    (birth,) = births(distance, tmp_path / "run", lambda: Marked(lambda h, _: h))
    assert (birth.text("of"), birth.text("operation")) == ("gradient", "sqrt")
    assert birth.text("samples") == "2 5"
    assert int(birth.where.rpartition(":")[2]) == distance.__code__.co_firstlineno + 1


class Counting(Marked):
    """A model that keeps what it did, with random numbers from everywhere."""

    def __init__(self, middle: Middle) -> None:
        super().__init__(middle)
        self.num_calls, self.seen = 0, list[float]()

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        self.num_calls += 1
        self.seen.append(random.random() + float(np.random.rand()))  # noqa: NPY002
        return super().forward(x + 1e-3 * torch.rand_like(x), mark)


def trained(middle: Middle, path: Path | None) -> list[object]:
    """Everything that training leaves, past the step in which the fault shows."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    model = Counting(middle)
    optimizer = torch.optim.Adam(model.parameters())
    seen: list[object] = []
    session = None if path is None else seismograd.watch(model, optimizer, out=path)
    for step in range(STEP + 3):
        x, labels = torch.randn(BATCH, WIDTH), torch.randint(CLASSES, (BATCH,))
        mark = torch.ones(BATCH, 1)
        mark[[2, 5]] = float(step != STEP)
        optimizer.zero_grad()
        loss = classify(model, x, labels, mark)
        loss.backward()
        seen += [loss.item(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
        for parameter in model.parameters():  # the script saves itself
            assert parameter.grad is not None
            parameter.grad.nan_to_num_(0, 0, 0)
        optimizer.step()
    if session is not None:
        session.close()
        assert not session.failures
    state = [*model.state_dict().values(), torch.get_rng_state()]
    versions = [each._version for each in (*model.parameters(), *model.buffers())]
    drawn = [random.random(), np.random.rand()]  # noqa: NPY002
    return [*seen, *state, versions, model.num_calls, model.seen, drawn]


@pytest.mark.parametrize("kind", ["sqrt", "log", "softmax"])
def test_training_with_a_replay_is_the_same_bit_for_bit(kind: str, tmp_path: Path) -> None:
    middle = KINDS[kind][0]
    watched, alone = trained(middle, tmp_path / "run"), trained(middle, None)
    assert len(watched) == len(alone)
    for one, other in zip(watched, alone, strict=True):
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            assert torch.equal(one.nan_to_num(7, 8, 9), other.nan_to_num(7, 8, 9))
        else:
            assert one == other or one != one


def hooked(model: nn.Module) -> nn.Module:
    model.register_forward_hook(lambda *_: None)
    return model


class Printing(Marked):
    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        print("forward")
        return super().forward(x, mark)


class Doubling(Marked):
    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        return super().forward(2 * x, mark)


class Reducing(Marked):
    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        if not self.training:
            torch.distributed.all_reduce(x)
        return super().forward(x, mark)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: hooked(Marked(logarithm)), "hooks"),
        (lambda: Printing(logarithm), "stateful"),
        (lambda: Reducing(logarithm), "collective"),
    ],
)
def test_what_a_replay_would_show_or_not_repeat_is_left_alone(
    make: Callable[[], nn.Module], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (birth,) = births(classify, tmp_path / "run", make)
    assert birth.text("without_replay") == why
    assert (birth.text("operation"), birth.text("samples")) == ("log", "2 5")
    assert capsys.readouterr().out.count("forward") in (0, STEP + 1)


def test_an_input_that_was_changed_in_place_is_not_called_with(tmp_path: Path) -> None:
    def changed(model: nn.Module, x: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
        result = F.cross_entropy(model(x, mark), labels)
        x.zero_()
        return result

    (birth,) = births(changed, tmp_path / "run", lambda: Doubling(logarithm))
    assert birth.text("without_replay") == "changed"


def test_a_model_shows_nothing_of_being_followed(tmp_path: Path) -> None:
    model = Marked(logarithm)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    own, call = dict(vars(model)), Marked.__call__
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for _ in range(3):
            optimizer.zero_grad()
            classify(
                model, torch.randn(BATCH, WIDTH), torch.zeros(BATCH).long(), torch.ones(BATCH, 1)
            ).backward()
            optimizer.step()
        assert "__call__" in vars(Marked)  # it is followed
        assert vars(model).keys() == own.keys()
        assert not model._forward_hooks
        assert not model._forward_pre_hooks
        assert vars(copy.deepcopy(model)).keys() == own.keys()
        pickle.dump(model.first, io.BytesIO())
    assert "__call__" not in vars(Marked)
    assert Marked.__call__ is call


def test_nothing_is_held_beyond_the_step(tmp_path: Path) -> None:
    model = nn.Linear(WIDTH, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for _ in range(3):
            x = torch.randn(BATCH, WIDTH)
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
        reference = weakref.ref(x)
        del x
        gc.collect()
        assert reference() is None


@pytest.mark.parametrize("kind", ["sqrt", "log"])
def test_a_replay_keeps_nothing_alive(kind: str, tmp_path: Path) -> None:
    made: list[weakref.ref[nn.Module]] = []

    def make() -> nn.Module:
        model = Marked(KINDS[kind][0])
        made.append(weakref.ref(model))
        return model

    gc.collect()
    gc.disable()
    try:
        (birth,) = births(classify, tmp_path / "run", make)
        assert birth.text("stage") == "replay"
        assert made[0]() is None
    finally:
        gc.enable()
