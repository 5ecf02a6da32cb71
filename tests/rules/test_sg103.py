from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seismograd
from seismograd.analysis.batch_sizes import batch_sizes
from seismograd.analysis.raised_rates import RaisedRates
from seismograd.record.reader import open_run
from seismograd.rules import GradientSpike
from seismograd.schema import EventFlag, EventKind, Fact, FactKind, Finding, RowBatch, StepFlag
from tests.rules.cutting import cut, result
from tests.synthetic import block, event

SPIKE = 30


def spiking(loss: np.ndarray, flags: np.ndarray | None = None) -> RowBatch:
    norms = np.ones((60, 2))
    norms[SPIKE] = 1e6
    return block(norms, loss=loss, flags=np.zeros(60, np.int64) if flags is None else flags)


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made], rules=(GradientSpike,))
    return finding


def losses(at_the_spike: float, *, elsewhere: float = 1.0) -> np.ndarray:
    made = np.full(60, elsewhere)
    made[SPIKE] = at_the_spike
    return made


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (1e3, "and the loss jumps from 1 to 1e+03"),
        (1.0, "but the loss does not jump"),
        (np.inf, "and the loss jumps from 1 to inf"),
        (np.nan, "and the loss is nan"),
    ],
)
def test_it_says_what_the_loss_did(loss: float, said: str) -> None:
    assert said in only(spiking(losses(loss))).cause.render()


@pytest.mark.parametrize("loss", [1.0, np.nan])
def test_it_says_nothing_of_a_loss_that_is_not_known(loss: float) -> None:
    unread = np.full(60, int(StepFlag.NO_LOSS))
    assert "loss" not in only(spiking(losses(loss), unread)).cause.render()


@pytest.mark.parametrize(("loss", "num"), [(0.05, 0), (0.2, 1)])
def test_a_hard_batch_in_a_trained_network_is_no_spike(loss: float, num: int) -> None:
    falling = np.full(90, 0.005)
    falling[:20] = np.geomspace(1.0, 0.005, 20)
    norms = np.ones((90, 2))
    falling[70], norms[70] = loss, 1e3
    findings, _ = result([block(norms, loss=falling)], rules=(GradientSpike,))
    assert len(findings) == num


@pytest.mark.parametrize(("loss", "num"), [(6.5, 0), (50.0, 1)])
def test_where_batches_differ_much_a_higher_loss_is_no_spike(loss: float, num: int) -> None:
    noisy = np.exp(np.random.default_rng(0).normal(0.4, 0.6, 60)).clip(0.4, 4.0)
    norms = np.ones((60, 2))
    noisy[SPIKE], norms[SPIKE] = loss, 18.0
    findings, _ = result([block(norms, loss=noisy)], rules=(GradientSpike,))
    assert len(findings) == num


def test_it_says_nothing_of_a_loss_with_nothing_to_compare_it_to() -> None:
    assert "loss" not in only(spiking(losses(1.0, elsewhere=np.nan))).cause.render()


@pytest.mark.parametrize("loss", [1.0, 1e3, np.inf, np.nan])
def test_the_same_is_found_in_pieces(loss: float) -> None:
    made = spiking(losses(loss))
    for at in ([], [SPIKE], [SPIKE + 1]):
        assert result(cut(made, at), rules=(GradientSpike,)) == result(
            [made], rules=(GradientSpike,)
        )


def sized(
    counts: Sequence[float], norms: Sequence[float], losses: Sequence[float], **fields: float
) -> RowBatch:
    """Iterations whose losses are over so many samples."""
    events = [
        event(EventKind.BACKWARD, step, count=count, weight=1 / count, **fields)
        for step, count in enumerate(counts)
    ]
    return block(np.array(norms)[:, None], loss=losses, events=events)


def with_a_short_batch(norm: float, *, count: float = 5) -> RowBatch:
    counts, norms, loss = [64.0] * 60, [1.0] * 60, [1.0] * 60
    counts[SPIKE], norms[SPIKE], loss[SPIKE] = count, norm, 4.0
    return sized(counts, norms, loss)


def test_a_short_batch_may_have_a_larger_gradient() -> None:
    assert only(with_a_short_batch(20.0, count=64)).severity == "warning"
    assert result([with_a_short_batch(20.0)], rules=(GradientSpike,))[0] == ()


def test_a_spike_of_a_short_batch_is_information() -> None:
    finding = only(with_a_short_batch(200.0))
    assert finding.severity == "info"
    assert "over 5 samples, that of others over 64" in finding.cause.render()


def test_a_real_spike_takes_the_place_of_a_short_batch_and_is_not_extended_by_one() -> None:
    counts, norms, loss = [64.0] * 150, [1.0] * 150, [1.0] * 150
    for step in (30, 140):
        counts[step], norms[step], loss[step] = 5, 200.0, 4.0
    norms[90], loss[90] = 200.0, 4.0
    finding = only(sized(counts, norms, loss))
    assert (finding.severity, finding.first_step, finding.last_step) == ("warning", 90, 90)


def test_a_sum_over_more_samples_may_be_larger() -> None:
    counts, norms, loss = [64.0] * 60, [1.0] * 60, [1.0] * 60
    counts[SPIKE], norms[SPIKE], loss[SPIKE] = 1280, 18.0, 20.0
    summed = sized(counts, norms, loss, flags=int(EventFlag.SUMMED))
    assert result([summed], rules=(GradientSpike,))[0] == ()
    assert only(sized(counts, norms, loss)).severity == "warning"


@pytest.mark.parametrize("at", [[30], [31], [5, 30, 31]])
def test_the_size_of_a_batch_is_remembered_between_blocks(at: list[int]) -> None:
    made = with_a_short_batch(200.0)
    made.events["count"][32:50] = np.nan
    assert result(cut(made, at), rules=(GradientSpike,)) == result([made], rules=(GradientSpike,))


def test_a_loss_that_was_negative_is_said_to_jump_only_where_it_leaps() -> None:
    loss = np.full(60, -1.6)
    loss[::2] = -1.4
    for at, said in ((637.0, "from -1.5 to 637"), (-1.45, "what it usually was")):
        loss[SPIKE] = at
        assert said in only(spiking(loss)).cause.render()
        assert "does not jump" not in only(spiking(loss)).cause.render()


def loads(*iterations: int) -> list[Fact]:
    before = [-1, *(b - a for a, b in pairwise(iterations))]
    return [
        Fact(FactKind.TARGET_LOADED, at, "train.py:9", -1, (), {"every": every, "times": times})
        for times, (at, every) in enumerate(zip(iterations, before, strict=True), 1)
    ]


@pytest.mark.parametrize(
    ("facts", "num"),
    [
        ([], 1),
        (loads(SPIKE), 0),
        (loads(SPIKE - 1), 0),
        (loads(SPIKE - 5), 0),  # its consequences
        (loads(SPIKE - 12), 1),
        (loads(SPIKE - 23, SPIKE - 3), 0),
        (loads(SPIKE - 26, SPIKE - 6), 1),  # a fifth of the way to the next
        (loads(SPIKE + 1), 1),
        (loads(10, 20), 0),  # and every tenth since then
        (loads(5, 16), 1),
        (loads(*range(10, SPIKE + 1)), 1),  # at every step: none stands out by it
    ],
)
def test_what_follows_upon_another_target_is_no_spike(facts: list[Fact], num: int) -> None:
    findings, _ = result([spiking(losses(1e3))], rules=(GradientSpike,), facts=facts)
    assert len(findings) == num


@pytest.mark.parametrize("at", [[29], [30, 31], [5, 32, 44], [*range(1, 60)]])
def test_after_another_target_another_level_begins(at: list[int]) -> None:
    loss = np.full(60, 0.01)
    loss[20:] = [0.5, 0.4, 0.02, 0.01, 0.2, 0.01, 0.01, 0.3, 0.01, 0.01] * 4
    loss[50] = 20.0
    made = block(np.sqrt(loss)[:, None] * [1.0, 1.0], loss=loss)
    made.values["grad_norm"][50] *= 100
    made.steps["grad_norm"][50] *= 100
    facts = loads(19)
    whole = result([made], rules=(GradientSpike,), facts=facts)
    assert [each.first_step for each in whole[0]] == [50]
    assert result(cut(made, at), rules=(GradientSpike,), facts=facts) == whole


def of_a_curriculum(length: int) -> RowBatch:
    """From step 30 on, two batches in three are of another stage, and learned by and by."""
    norms, loss = np.full((90, 2), 0.1), np.full(90, 0.08)
    for step in range(30, 30 + length):
        if step % 3 != 2:
            norms[step], loss[step] = 3.0 * 0.95 ** (step - 30), 3.4 * 0.95 ** (step - 30)
    return block(norms, loss=loss)


@pytest.mark.parametrize("at", [[29], [30, 31], [32], [33, 40, 41, 42, 43], [*range(1, 90)]])
def test_steps_that_soon_stand_out_again_begin_another_level(at: list[int]) -> None:
    for length, num in ((60, 0), (9, 0), (6, 1), (3, 1)):
        made = of_a_curriculum(length)
        whole = result([made], rules=(GradientSpike,))
        assert len(whole[0]) == num, length
        assert result(cut(made, at), rules=(GradientSpike,)) == whole
    (finding,) = result([of_a_curriculum(6)], rules=(GradientSpike,))[0]
    assert (finding.first_step, finding.last_step) == (30, 34)


@pytest.mark.parametrize(("length", "num"), [(2, 1), (6, 1), (25, 0)])
def test_a_norm_that_is_no_more_than_at_first_and_stays_is_another_task(
    length: int, num: int
) -> None:
    norms, loss = np.full((90, 2), 0.04), np.full(90, 0.01)
    norms[:8], loss[:8] = 1.15, 1.1
    norms[60 : 60 + length], loss[60 : 60 + length] = 1.1, 1.12
    norms[60:62] = 1.2
    made = block(norms, loss=loss)
    whole = result([made], rules=(GradientSpike,))
    assert len(whole[0]) == num
    assert result(cut(made, [60, 61, 62, 69, 70, 71, 72]), rules=(GradientSpike,)) == whole


def test_what_a_spike_has_shaken_does_not_undo_it() -> None:
    norms, loss = np.full((70, 2), 0.005), np.full(70, 2e-4)
    norms[50], loss[50] = 20.0, 20.0
    for step, norm in zip(
        range(51, 60), (0.005, 1.5, 0.01, 0.5, 0.2, 0.8, 3.0, 2.0, 1.3), strict=True
    ):
        norms[step], loss[step] = norm, norm / 20
    (finding,) = result([block(norms, loss=loss)], rules=(GradientSpike,))[0]
    assert finding.first_step == 50


def test_a_rare_transition_in_a_regression_of_action_values_is_no_spike() -> None:
    loss = losses(30.0)
    made = spiking(loss)
    made.values["grad_norm"][SPIKE] = made.steps["grad_norm"][SPIKE] = 50.0
    fact = Fact(FactKind.ACTION_VALUES, 0, "train.py:9", -1, (), {})
    assert len(result([made], rules=(GradientSpike,))[0]) == 1
    assert result([made], rules=(GradientSpike,), facts=[fact])[0] == ()
    assert len(result([spiking(loss)], rules=(GradientSpike,), facts=[fact])[0]) == 1


def test_a_target_that_is_loaded_now_and_then_is_told_a_few_times(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model, target, other = (torch.nn.Linear(4, 3) for _ in range(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for number in range(120):
            optimizer.zero_grad()
            x = torch.randn(16, 4)
            (model(x) - target(x).detach()).square().mean().backward()
            optimizer.step()
            if number % 5 == 4:
                target.load_state_dict(model.state_dict())
                other.load_state_dict(model.state_dict())
            if number == 60:  # its own weights, as from a checkpoint
                model.load_state_dict(model.state_dict())
    told = [each for each in open_run(tmp_path / "run").facts if each.kind == "target_loaded"]
    assert [each.iteration for each in told] == [4, 9, 14, 19, 24, 29, 34, 39, 79]
    assert [each.number("every") for each in told] == [-1, *[5] * 8]


def test_the_short_batch_at_the_end_of_each_epoch_is_counted(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for number in range(84):
            size = 5 if number % 42 == 41 else 16
            optimizer.zero_grad()
            loss = model(torch.randn(size, 4)).square().sum(1).mean()
            (loss / 2).backward()
            optimizer.step()
    (block,) = open_run(tmp_path / "run").blocks(1024)
    counts = batch_sizes(block)[:, 0]
    assert counts[41] == counts[83] == 5
    assert counts[42] == 16


def searched(after: Sequence[float], at: int = 37) -> RowBatch:
    """A rate that is raised for forty steps, with a spike at one of them, and these behind it."""
    rates = np.concatenate([np.geomspace(1e-6, 1.0, 40), after])
    norms, loss = np.ones((len(rates), 2)), np.ones(len(rates))
    norms[at], loss[at] = 1e3, 1e2
    made = block(norms, loss=loss)
    made.steps["lr"] = rates
    return made


HELD, SEARCHED = (
    {
        "goes on": np.full(30, 1.0),
        "falls a little": np.full(30, 0.2),
        "falls after a long time": np.concatenate([np.full(150, 1.0), np.full(20, 1e-3)]),
        "decays": np.geomspace(0.99, 1e-3, 60),
    },
    {
        "begins anew": np.full(30, 1e-3),
        "goes on for a while": np.concatenate([np.full(9, 1.0), np.full(20, 1e-3)]),
        "is raised again": np.geomspace(1e-6, 1e-3, 40),
    },
)


@pytest.mark.parametrize("after", HELD.values(), ids=HELD)
def test_a_spike_while_the_rate_is_raised_is_found(after: np.ndarray) -> None:
    made = searched(after)
    finding = only(made)
    assert finding.first_step == 37
    for at in ([10, 30], [38], [45, 50], [*range(1, len(made))]):
        assert result(cut(made, at), rules=(GradientSpike,))[0] == (finding,)


@pytest.mark.parametrize("after", SEARCHED.values(), ids=SEARCHED)
def test_the_end_of_a_search_for_the_rate_is_no_spike(after: np.ndarray) -> None:
    made = searched(after)
    for at in ([], [10, 30], [38], [45, 50], [*range(1, len(made))]):
        assert result(cut(made, at), rules=(GradientSpike,))[0] == ()


def test_a_spike_before_the_rate_is_far_up_is_found() -> None:
    assert only(searched(np.full(30, 1e-3), at=12)).first_step == 12


@given(
    st.lists(st.sampled_from([1e-6, 1e-4, 1e-2, 1.0]), max_size=60),
    st.lists(st.integers(0, 250), max_size=4),
    st.sampled_from([1, 40, 130]),
)
def test_rates_are_read_alike_in_pieces(others: list[float], at: list[int], num_level: int) -> None:
    search = [*np.geomspace(1e-6, 1.0, 20).tolist(), *[1.0] * num_level]
    rates = np.array([*search, *others, *search, 1e-3, *search])
    steps = np.arange(len(rates))
    whole, pieces = RaisedRates(), RaisedRates()
    whole.read(steps, rates)
    bounds = [0, *sorted(min(each, len(rates)) for each in at), len(rates)]
    for begin, end in pairwise(bounds):
        pieces.read(steps[begin:end], rates[begin:end])
    assert [whole.is_in_search(step) for step in steps] == [
        pieces.is_in_search(step) for step in steps
    ]
