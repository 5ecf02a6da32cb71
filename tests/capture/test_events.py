"""What is recorded of each call that the loop makes: which optimizers it touched, in what state
the gradients were, how much they weigh.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.capture.hub import HUB
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import EventFlag, EventKind, Origin, StepFlag
from tests.capture.loops import by_hand_with_clips, optimizer_of_a_framework, told_nothing
from tests.capture.sessions import make_session
from tests.capture.watched import watched
from tests.single_rows import RowList

NONE, USED, EMPTY, SHARED, SUMMED, RESCALED = (
    EventFlag.NONE,
    EventFlag.USED,
    EventFlag.EMPTY,
    EventFlag.SHARED,
    EventFlag.SUMMED,
    EventFlag.RESCALED,
)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def data(num: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(num, 6, generator=torch.Generator().manual_seed(num)), torch.arange(num) % 3


def loss_of(net: nn.Module, num: int = 4) -> Tensor:
    x, y = data(num)
    return F.cross_entropy(net(x), y)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1)


def test_an_ordinary_clear_is_of_used_gradients_and_the_first_of_none() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    assert kept.heard(EventKind.ZERO_GRAD) == [(EMPTY, 1), (USED, 1), (USED, 1)]
    assert kept.heard(EventKind.BACKWARD) == [(NONE, 1)] * 3
    assert kept.heard(EventKind.STEP) == [(NONE, 1)] * 3


def test_clearing_between_backward_and_step_throws_fresh_gradients_away() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(3):
            loss_of(net).backward()
            net.zero_grad()
            optimizer.step()
    assert kept.heard(EventKind.ZERO_GRAD) == [(NONE, 1)] * 3


def test_a_clip_after_the_step_is_of_used_gradients_and_before_the_backward_of_none() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(2):
            optimizer.zero_grad()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            loss_of(net).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    assert kept.heard(EventKind.CLIP) == [(EMPTY, 1), (NONE, 1), (USED, 1)] * 2
    assert [float(row.step["clip_limit"]) for row in kept.rows] == [1.0, 1.0]


def test_what_the_gradients_are_still_multiplied_by_is_told_at_the_clip_and_at_the_step() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for unscaled in (True, False):
            optimizer.zero_grad()
            scaler.scale(loss_of(net)).backward()
            if unscaled:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
        scaler.scale(loss_of(net)).backward()
        optimizer.step()
    assert kept.column(EventKind.BACKWARD, "scale") == [8, 8, 8]
    assert kept.column(EventKind.CLIP, "scale") == [1, 8]
    assert kept.column(EventKind.STEP, "scale") == [1, 1, 8]
    weights = kept.column(EventKind.BACKWARD, "weight")
    assert weights == [0.25] * 3  # of each of 4 samples, the scale left out


def test_micro_batches_are_told_with_their_sizes_and_weights() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(2):
            optimizer.zero_grad()
            for num in (4, 4, 3):
                (loss_of(net, num) / 3).backward()
            optimizer.step()
    assert kept.heard(EventKind.BACKWARD) == [(RESCALED, 1)] * 6
    counts, weights = (kept.column(EventKind.BACKWARD, name) for name in ("count", "weight"))
    assert counts == [4, 4, 3] * 2
    assert [c * w for c, w in zip(counts, weights, strict=True)] == pytest.approx([1 / 3] * 6)


def test_another_loss_of_the_same_forward_is_told_from_another_batch() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(12):
            optimizer.zero_grad()
            out = net(data()[0])
            F.cross_entropy(out, data()[1]).backward(retain_graph=True)
            out.square().sum().backward()
            loss_of(net).backward()
            optimizer.step()
    assert kept.heard(EventKind.BACKWARD) == [(NONE, 1), (SHARED | SUMMED, 1), (NONE, 1)] * 12


def test_a_backward_names_every_optimizer_that_it_adds_to() -> None:
    with watched() as kept:
        generator, critic = nn.Linear(6, 6), nn.Linear(6, 1)
        first, second = sgd(generator), sgd(critic)
        for _ in range(2):
            second.zero_grad()
            critic(data()[0]).mean().backward()
            second.step()
            first.zero_grad()
            critic(generator(data()[0])).mean().backward()
            first.step()
    touched = [bits for _, bits in kept.heard(EventKind.BACKWARD)]
    assert touched == [0b01, 0b11, 0b01, 0b11]  # the critic steps first
    assert [bits for _, bits in kept.heard(EventKind.ZERO_GRAD)] == [0b01, 0b10] * 2
    # the third throws away what G left
    assert [flags for flags, _ in kept.heard(EventKind.ZERO_GRAD)] == [EMPTY, EMPTY, NONE, USED]


def test_a_clear_is_of_every_optimizer_whose_tensors_are_all_among_those_cleared() -> None:
    with watched() as kept:
        net, head = model(), nn.Linear(3, 3)
        outer, inner = torch.optim.Adam(net.parameters()), sgd(net)
        both = torch.optim.RMSprop([*net.parameters(), *head.parameters()])
        for _ in range(2):
            inner.zero_grad()
            F.cross_entropy(head(net(data()[0])), data()[1]).backward()
            inner.step()
        outer.step()
        both.step()
    kinds = [each.kind for each in kept.session.optimizers]
    bits = {kind: 1 << number for number, kind in enumerate(kinds)}
    # at the first there was nothing, and the gradients of the head are not cleared
    assert kept.heard(EventKind.ZERO_GRAD) == [
        (EMPTY, bits["SGD"]),
        (USED, bits["SGD"] | bits["Adam"]),
    ]


def test_the_tail_that_no_step_used_is_told_with_its_line() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for number in range(5):
            loss_of(net).backward()
            if number % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
    (note,) = [note for note in kept.notes if note.kind == "tail"]
    assert (note.count, note.optimizer) == (2, 0)
    assert note.where.split(":")[0].endswith("test_events.py")


def test_a_tail_that_was_thrown_away_is_not_told() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(2):
            loss_of(net).backward()
            optimizer.step()
            optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.zero_grad()
    assert [note for note in kept.notes if note.kind == "tail"] == []


@pytest.mark.parametrize("where", list(Origin))
def test_where_a_loss_that_is_not_finite_came_from(where: Origin) -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for broken in (False, True):
            x, y = data()
            if broken and where == Origin.INPUT:
                x[0, 0] = math.inf
            if broken and where == Origin.WEIGHT:
                with torch.no_grad():
                    net[2].weight[0, 0] = math.nan
            out = net(x)
            if broken and where == Origin.ACTIVATION:
                out = torch.sqrt(out - 100)
            loss = F.mse_loss(out, F.one_hot(y, 3).float())
            if broken and where == Origin.LOSS:
                loss = torch.log(loss - loss - 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    expected = [Origin.UNKNOWN, where]
    assert kept.column(EventKind.BACKWARD, "detail") == expected


def test_what_a_mask_hides_is_not_where_a_loss_came_from() -> None:
    """A mask of -inf, and a class that a mask makes impossible, are as they should be."""
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        x, _ = data()
        out = net(x)
        mask = torch.full((len(out), len(out)), -math.inf).triu(1)
        attended = F.scaled_dot_product_attention(*[out.expand(1, 1, -1, -1)] * 3, attn_mask=mask)
        likely = F.log_softmax(
            attended.masked_fill(torch.tensor([True, False, False]), -math.inf), dim=-1
        )
        torch.log(0 * likely[..., 1].mean() - 1).backward()
        optimizer.step()
    assert kept.column(EventKind.BACKWARD, "detail") == [Origin.LOSS]


def test_parameters_in_a_plain_list_are_found_through_the_loss() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [nn.Linear(6, 6), nn.Linear(6, 6)]
            self.out = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.hidden:
                x = torch.sigmoid(layer(x))
            return self.out(x)

    with watched() as kept:
        net = Net()
        optimizer = sgd(net)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    described = {
        p.name: (p.registered, p.optimizer, p.activation) for p in kept.rows[-1].parameters
    }
    assert described["out.weight"] == (True, 0, "log_softmax")
    assert described["hidden.0.weight"] == (False, None, "sigmoid")
    assert set(described) == {
        "out.weight",
        "out.bias",
        *(f"hidden.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")),
    }
    norms = kept.rows[-1].values["grad_norm"]
    assert all(norm > 0 for norm in norms)


def test_a_model_that_no_optimizer_holds_is_named_when_the_loss_reaches_it() -> None:
    with watched() as kept:
        encoder, head = nn.Linear(6, 6), nn.Linear(6, 3)
        optimizer = sgd(head)
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(nn.Sequential(encoder, head)).backward()
            optimizer.step()
    described = {p.name: (p.registered, p.optimizer) for p in kept.rows[-1].parameters}
    assert (True, None) in {
        described[name] for name in described if "encoder" in name or "0." in name
    }, described


def test_requires_grad_set_on_a_module_is_told() -> None:
    with watched() as kept:
        net = model()
        net[0].requires_grad = False  # type: ignore[assignment]  # the fault: it has no effect
        optimizer = sgd(net)
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    assert [p.frozen_in_name for p in kept.rows[-1].parameters] == [True, True, False, False]


def test_the_dtype_that_autocast_computes_in_is_told() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(2):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(net)
            loss.backward()
            optimizer.step()
    assert {p.compute_dtype for p in kept.rows[-1].parameters} == {"bfloat16"}
    assert [p.activation for p in kept.rows[-1].parameters][:2] == ["relu", "relu"]


def test_a_step_on_old_gradients_is_told_from_one_on_none() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        loss_of(net).backward()
        optimizer.step()
        optimizer.step()
        optimizer.zero_grad()
        optimizer.step()
    assert kept.heard(EventKind.STEP) == [(NONE, 1), (USED, 1), (EMPTY, 1)]


def test_losses_are_looked_at_now_and_then_in_a_plain_loop_and_always_in_accumulation() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        for _ in range(60):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    looked_at = [not math.isnan(count) for count in kept.column(EventKind.BACKWARD, "count")]
    assert looked_at == [number <= 32 or number % 10 == 0 for number in range(1, 61)]
    with watched() as kept:
        for _ in range(40):
            optimizer.zero_grad()
            for _ in range(2):
                (loss_of(net) / 2).backward()
            optimizer.step()
    assert kept.column(EventKind.BACKWARD, "count") == [4] * 80


def test_the_step_of_a_base_class_within_that_of_a_subclass_is_one_step() -> None:
    class Mine(torch.optim.SGD):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            self.param_groups[0]["lr"] = 0.05
            super().step(closure)
            if failing:
                raise RuntimeError("after the step")

    failing = False
    with watched() as kept:
        net = model()
        sgd(net)  # torch announces the steps of a class once it has made one
        optimizer = Mine(net.parameters(), lr=0.1)
        for number in range(4):
            optimizer.zero_grad()
            loss_of(net).backward()
            failing = number == 1
            with pytest.raises(RuntimeError) if failing else nullcontext():
                optimizer.step()
    assert kept.heard(EventKind.STEP) == [(NONE, 1)] * 4
    assert [int(row.step["num_backwards"]) for row in kept.rows] == [1] * 4


def gan(steps: int = 3) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    """As DCGAN: the discriminator's loss in two halves, the generator's through the
    discriminator.
    """
    generator, critic = nn.Linear(6, 6), nn.Linear(6, 1)
    of_critic, of_generator = sgd(critic), sgd(generator)
    for _ in range(steps):
        critic.zero_grad()
        critic(data()[0]).mean().backward()
        fake = generator(data()[0])
        (-critic(fake.detach()).mean()).backward()
        of_critic.step()
        generator.zero_grad()
        critic(fake).mean().backward()
        of_generator.step()
    return critic, [of_critic, of_generator]


def test_what_a_clear_threw_away_is_no_backward_of_the_step() -> None:
    with watched() as kept:
        made = gan()
    assert [int(row.step["num_backwards"]) for row in kept.rows] == [2, 1] * 3
    assert len(made[1]) == len(kept.session.optimizers)


def test_a_backward_through_another_network_is_no_tail_of_it() -> None:
    for more in range(3):
        with watched() as kept:
            critic, optimizers = gan()
            for _ in range(more):
                critic(data()[0]).mean().backward()
            kept.session.finish()
        assert [note.count for note in kept.notes if note.kind == "tail"] == [more][:more]
        del optimizers


def test_losses_that_were_cleared_by_hand_are_not_of_the_step() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)
        losses: list[float] = []
        for number in range(6):
            for _ in range(2):
                if number % 2:
                    optimizer.zero_grad()
                for p in net.parameters():
                    if number % 3 == 0:
                        p.grad = None
                    elif p.grad is not None:
                        p.grad.zero_()
                loss = loss_of(net)
                loss.backward()
            losses.append(loss.item())
            optimizer.step()
    assert [float(row.step["loss"]) for row in kept.rows] == pytest.approx(losses)
    assert [int(row.step["num_backwards"]) for row in kept.rows] == [1] * 6


def test_the_first_step_of_what_was_frozen_when_it_was_first_seen_has_its_loss() -> None:
    """As a GAN under Lightning, which freezes what is not being trained."""
    with watched() as kept:
        nets = nn.Linear(6, 6), nn.Linear(6, 1)
        optimizers = sgd(nets[0]), sgd(nets[1])
        losses: list[float] = []
        for step in range(6):
            for number, net in enumerate(nets):
                net.requires_grad_(number == step % 2)
            loss = nets[1](nets[0](data()[0])).square().mean()
            optimizers[step % 2].zero_grad()
            loss.backward()
            losses.append(loss.item())
            optimizers[step % 2].step()
    assert [float(row.step["loss"]) for row in kept.rows] == pytest.approx(losses)
    assert [int(row.step["num_backwards"]) for row in kept.rows] == [1] * 6


def test_what_happens_within_a_closure_says_so_and_which_evaluation_it_is_of() -> None:
    with watched() as kept:
        net = model()
        optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=2)
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = loss_of(net)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            return loss

        optimizer.step(closure)
        optimizer.zero_grad()
    assert calls == 2
    within, again = EventFlag.CLOSURE, EventFlag.CLOSURE | EventFlag.AGAIN
    assert kept.heard(EventKind.STEP) == [(within, 1)]
    assert kept.heard(EventKind.BACKWARD) == [(within, 1), (again, 1)]
    assert kept.heard(EventKind.CLIP) == [(within, 1), (again, 1)]
    assert [flags for flags, _ in kept.heard(EventKind.ZERO_GRAD)][-1] == USED


def test_a_closure_that_raises_is_not_taken_for_one_that_goes_on() -> None:
    with watched() as kept:
        net = model()
        optimizer = sgd(net)

        def fails() -> Tensor:
            optimizer.zero_grad()
            loss_of(net).backward()
            raise MemoryError

        with pytest.raises(MemoryError):
            optimizer.step(fails)  # type: ignore[arg-type]
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(net).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            optimizer.step()
    assert kept.heard(EventKind.BACKWARD) == [(EventFlag.CLOSURE, 1), *[(NONE, 1)] * 3]
    assert [float(row.step["clip_limit"]) for row in kept.rows[1:]] == [pytest.approx(0.1)] * 3
    assert [int(row.step["num_backwards"]) for row in kept.rows[1:]] == [1] * 3


def test_an_optimizer_of_a_framework_has_a_name_and_its_rates() -> None:
    with watched() as kept:
        optimizer_of_a_framework(told_nothing)
    (known,) = kept.session.optimizers
    assert known.kind == "OwnOptimizer"
    assert [float(row.step["lr"]) for row in kept.rows] == pytest.approx(
        [0.1, 0.05, 0.1 / 3, 0.025]
    )
    assert not any(int(row.step["flags"]) & StepFlag.BY_HAND for row in kept.rows)
    assert [float(row.step["clip_limit"]) for row in kept.rows] == pytest.approx([0.02] * 4)


def test_updates_by_hand_are_told_from_an_optimizer_of_a_framework() -> None:
    with watched() as kept:
        by_hand_with_clips(told_nothing)
    (known,) = kept.session.optimizers
    assert known.kind == ""
    assert all(int(row.step["flags"]) & StepFlag.BY_HAND for row in kept.rows)
    late = [bool(flags & USED) for flags, _ in kept.heard(EventKind.CLIP)]
    assert late == [False, True, False, False, True] * 2


def test_the_first_step_of_an_optimizer_that_was_not_known_before_has_its_losses() -> None:
    net = model()
    rows = RowList()
    session = make_session(ReferenceBackend(), rows.take, lambda _: None, models=[net])
    HUB.attach(session)
    try:
        optimizer = sgd(net)
        losses: list[float] = []
        for _ in range(3):
            for num in (4, 3):
                loss = loss_of(net, num)
                loss.backward()
                losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    finally:
        HUB.detach(session)
        session.finish()
    assert [float(row.step["loss"]) for row in rows] == pytest.approx(
        [a + b for a, b in zip(losses[::2], losses[1::2], strict=True)]
    )
    assert [int(row.step["num_backwards"]) for row in rows] == [2] * 3


def test_gradients_that_are_kept_while_their_network_is_frozen_are_still_known_as_used() -> None:
    with watched() as kept:
        nets = nn.Linear(6, 6), nn.Linear(6, 1)
        optimizers = sgd(nets[0]), sgd(nets[1])
        for step in range(8):
            for number, net in enumerate(nets):
                net.requires_grad_(number == step % 2)
            nets[1](nets[0](data()[0])).square().mean().backward()
            optimizers[step % 2].step()  # and nobody clears
    carried = [bool(row.values["carried"].any()) for row in kept.rows]
    assert carried == [False, False, *[True] * 6]
