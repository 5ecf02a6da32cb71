"""What nearly every step does is handled the short way (`capture/steady/`): with the record of the
full way, byte for byte, whatever happens in between.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seismograd.capture.hub import HUB
from seismograd.capture.session import Session
from seismograd.capture.steady.backward_visit import BackwardVisit
from seismograd.capture.steady.clearing_visit import ClearingVisit
from seismograd.capture.steady.clip_visit import ClipVisit
from seismograd.capture.steady.step_visit import StepVisit
from seismograd.measure.backend_selection import make_backend
from seismograd.measure.native import tensor_reads
from tests.capture.loops import LOOPS, Loop, told_nothing
from tests.capture.whole_record import WholeRecord

NUM_STEPS = 22


@pytest.fixture(autouse=True, scope="module")
def first_optimizer_of_the_process() -> None:
    """Have torch import what it imports with the first optimizer: the frames of that, garbage that
    only a collection deletes, hold the optimizer, and with it what a loop replaces.
    """
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)


def recorded(
    run: Callable[[], list[Tensor]], short_ways: bool, **more: Any
) -> tuple[list[str], list[Tensor]]:
    """Everything that a session hands on of a training, and what the training returns."""
    gc.collect()
    gc.freeze()  # what was left behind is not of this program
    gc.disable()  # a collection changes the order in which the collector lists optimizers
    torch.manual_seed(0)
    try:
        with WholeRecord(make_backend(), short_ways=short_ways, **more) as record:
            outcome = run()
    finally:
        gc.enable()
    assert record.session.guard.failures == {}, record.outlet.notes
    return record.lines(), outcome


def bits(tensors: list[Tensor]) -> list[bytes]:
    """The numbers to the last bit: NaN is not equal to itself."""
    return [bytes(each.detach().reshape(-1).view(torch.uint8).tolist()) for each in tensors]


def assert_the_same(run: Callable[[], list[Tensor]], **more: Any) -> None:
    short, with_short = recorded(run, short_ways=True, **more)
    full, with_full = recorded(run, short_ways=False, **more)
    assert short == full
    assert bits(with_short) == bits(with_full)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_every_loop_has_the_record_of_the_full_way(loop: Loop) -> None:
    assert_the_same(lambda: loop.run(told_nothing))


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_every_loop_has_the_same_record_without_the_extension(loop: Loop) -> None:
    by_extension, _ = recorded(lambda: loop.run(told_nothing), True)
    with tensor_reads.without_extension():
        by_python, _ = recorded(lambda: loop.run(told_nothing), True)
    assert by_extension == by_python


class UnusualError(Exception):
    pass


class Training:
    """A training in which something unusual happens in some steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.1), nn.Linear(9, 3))
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.model.parameters(), 1e-2)
        self.more: list[Any] = []

    def loss(self, factor: float = 1.0) -> Tensor:
        predicted = self.model(torch.randn(8, 6))
        return factor * nn.functional.cross_entropy(predicted, torch.randint(0, 3, (8,)))

    def train(self, oddities: list[tuple[int, str, str]]) -> list[Tensor]:
        for step in range(NUM_STEPS):
            odd = {where: what for number, where, what in oddities if number == step}
            self.step(odd, clips=step % 9 >= 6)
        return [p.detach().clone() for p in self.model.parameters()]

    def step(self, odd: dict[str, str], clips: bool = False) -> None:
        """Make a step; `odd`: what happens where in it."""
        try:
            self.at(odd.get("begin"))
            self.optimizer.zero_grad()
            self.at(odd.get("cleared"))
            self.loss().backward()
            self.update(odd, clips)
        except UnusualError:
            self.optimizer.zero_grad()

    def update(self, odd: dict[str, str], clips: bool) -> None:
        """Step on the gradients that are ready."""
        self.at(odd.get("ready"))
        if clips:
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.at(odd.get("end"))

    def at(self, what: str | None) -> None:
        if what is not None:
            ODDITIES[what](self)

    def first(self) -> Any:
        return next(self.model.parameters())


def no_gradient(training: Training) -> None:
    training.first().grad = None


def another_gradient(training: Training) -> None:
    training.first().grad = torch.ones_like(training.first())


def changed_gradient(training: Training) -> None:
    if training.first().grad is not None:
        training.first().grad.mul_(0.5)


def not_finite(training: Training) -> None:
    if training.first().grad is not None:
        training.first().grad[0, 0] = float("nan")


def zeros(training: Training) -> None:
    training.optimizer.zero_grad(set_to_none=False)


def cleared(training: Training) -> None:
    training.model.zero_grad()


def extra_backward(training: Training) -> None:
    training.loss(0.5).backward()


def backward_of_two(training: Training) -> None:
    torch.autograd.backward([training.loss(), training.loss()])


def nan_loss(training: Training) -> None:
    training.loss(float("nan")).backward()


def other_rate(training: Training) -> None:
    training.optimizer.param_groups[0]["lr"] *= 0.5


def other_settings(training: Training) -> None:
    training.optimizer.param_groups[0]["weight_decay"] += 0.125


def added_module(training: Training) -> None:
    training.model.add_module(str(len(training.model)), nn.Linear(3, 3))


def rate_as_a_tensor(training: Training) -> None:
    training.optimizer.param_groups[0]["lr"] = torch.tensor(1e-2)


def added_group(training: Training) -> None:
    training.more.append(nn.Parameter(torch.ones(4)))
    training.optimizer.add_param_group({"params": [training.more[-1]], "lr": 0.5})


def another_optimizer(training: Training) -> None:
    training.more.append(torch.optim.SGD([nn.Parameter(torch.ones(3))], 0.1))
    training.more[-1].step()


def remade_optimizer(training: Training) -> None:
    training.optimizer = torch.optim.AdamW(training.model.parameters(), 1e-2)


def unscaled(training: Training) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    training.optimizer.zero_grad()
    scaler.scale(training.loss()).backward()
    scaler.unscale_(training.optimizer)
    scaler.step(training.optimizer)
    scaler.update()


def closure(training: Training) -> None:
    def evaluate() -> float:
        training.optimizer.zero_grad()
        loss = training.loss()
        loss.backward()
        return loss.item()

    training.optimizer.step(evaluate)


def raises(_: Training) -> None:
    raise UnusualError


def raises_in_the_backward(training: Training) -> None:
    loss = training.loss()

    def hook(_: Tensor) -> None:
        raise UnusualError

    loss.register_hook(hook)
    loss.backward()


def raises_in_the_step(training: Training) -> None:
    def evaluate() -> float:
        raise UnusualError

    training.optimizer.step(evaluate)


def evaluation(training: Training) -> None:
    training.model.eval()
    with torch.no_grad():
        training.loss()
    training.model.train()


def left_in_eval_mode(training: Training) -> None:
    training.model.eval()


def other_thread(training: Training) -> None:
    thread = threading.Thread(target=lambda: training.loss().backward())
    thread.start()
    thread.join()


def clip_by_value(training: Training) -> None:
    if any(p.grad is not None for p in training.model.parameters()):
        nn.utils.clip_grad_value_(training.model.parameters(), 0.01)


def clip_of_some(training: Training) -> None:
    nn.utils.clip_grad_norm_([training.first()], 0.1)


def frozen(training: Training) -> None:
    training.first().requires_grad_(not training.first().requires_grad)


def loaded(training: Training) -> None:
    training.model.load_state_dict({k: v * 0.9 for k, v in training.model.state_dict().items()})


def extra_step(training: Training) -> None:
    training.optimizer.step()


def gradient_penalty(training: Training) -> None:
    if not training.first().requires_grad:
        return
    loss = training.loss()
    (grad,) = torch.autograd.grad(loss, [training.first()], create_graph=True)
    (loss + grad.square().sum()).backward()


ODDITIES: dict[str, Callable[[Training], None]] = {
    each.__name__: each
    for each in (
        no_gradient,
        another_gradient,
        changed_gradient,
        not_finite,
        zeros,
        cleared,
        extra_backward,
        backward_of_two,
        nan_loss,
        other_rate,
        other_settings,
        added_module,
        rate_as_a_tensor,
        added_group,
        another_optimizer,
        remade_optimizer,
        unscaled,
        closure,
        raises,
        raises_in_the_backward,
        raises_in_the_step,
        evaluation,
        left_in_eval_mode,
        other_thread,
        clip_by_value,
        clip_of_some,
        frozen,
        loaded,
        extra_step,
        gradient_penalty,
    )
}
WHERE = ("begin", "cleared", "ready", "end")
oddities = st.lists(
    st.tuples(
        st.integers(4, NUM_STEPS - 2), st.sampled_from(WHERE), st.sampled_from(sorted(ODDITIES))
    ),
    max_size=4,
)


def compare(listed: list[tuple[int, str, str]]) -> None:
    """The training is recorded as on the full way, and where Python asks the tensors and not the
    extension, and is to the last bit what it is unwatched.
    """

    unwatched = Training()
    torch.manual_seed(0)
    bare = unwatched.train(listed)
    outcomes: list[tuple[list[str], list[Tensor]]] = []
    for short_ways in (True, False):
        training = Training()
        outcomes.append(
            recorded(lambda t=training: t.train(listed), short_ways, models=[training.model])
        )
    if tensor_reads.has_extension():
        training = Training()
        with tensor_reads.without_extension():
            outcomes.append(recorded(lambda: training.train(listed), True, models=[training.model]))
    (short, with_short), *others = outcomes
    for record, outcome in others:
        assert short == record
        assert bits(with_short) == bits(outcome)
    assert bits(with_short) == bits(bare)


@settings(max_examples=8, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(oddities)
@example([(9, "ready", "no_gradient"), (12, "cleared", "extra_backward"), (15, "end", "frozen")])
def test_whatever_happens_in_between_the_record_is_that_of_the_full_way(
    listed: list[tuple[int, str, str]],
) -> None:
    compare(listed)


@pytest.mark.extended
@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(oddities)
def test_whatever_happens_often(listed: list[tuple[int, str, str]]) -> None:
    compare(listed)


# `test_native_visits.py` has all of them in every run
@pytest.mark.extended
@pytest.mark.parametrize("what", ODDITIES)
def test_each_of_them_by_itself(what: str) -> None:
    compare([(5 + 4 * turn, where, what) for turn, where in enumerate(WHERE)])


def test_nearly_every_step_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, list[bool]] = {}

    def counted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any) -> bool:
            taken.setdefault(name, []).append(result := original(*args))
            return result

        monkeypatch.setattr(owner, name, call)

    counted(ClearingVisit, "zero_grad_ends")
    for name in ("backward_begins", "backward_ends"):
        counted(BackwardVisit, name)
    for name in ("step_begins", "step_ends"):
        counted(StepVisit, name)
    for name in ("clip_begins", "clip_ends"):
        counted(ClipVisit, name)
    training = Training()
    recorded(lambda: training.train([]), short_ways=True)
    assert len(taken) == 7
    for name, each in taken.items():
        assert sum(each) >= len(each) - 8, (name, each)
    without = Training()
    taken.clear()
    recorded(lambda: without.train([]), short_ways=False)
    assert not taken


def test_a_part_that_failed_is_asked_for_on_the_full_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of ours on the short way is reported once, and the part left out after three."""
    training = Training()

    def fail(*_: object) -> None:
        raise ValueError("ours")

    session = Session(make_backend(), [training.model])
    HUB.attach(session)
    try:
        training.train([])
        births = session._handlers.backwards.inspection.births
        monkeypatch.setattr(births, "backward_begins", fail)
        training.train([])
    finally:
        HUB.detach(session)
        session.finish()
    assert session.guard.failures == {"birth": 3}
    assert session.num_stepped == 2 * NUM_STEPS
