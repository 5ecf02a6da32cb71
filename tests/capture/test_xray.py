"""In a sampled step the signals of every module are measured; in others, and of the training,
nothing is changed.
"""

from __future__ import annotations

import gc
import math
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from seismograd.capture.hub import HUB
from seismograd.capture.session import Session
from seismograd.capture.xray.xray import XraySchedule
from seismograd.measure.reference import ReferenceBackend
from tests.capture.loops import LOOPS, Loop, told_nothing
from tests.capture.xrays import Sampled, SamplingOutlet, names, number, sampled, train
from tests.record.processes import run_python

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def rms(tensor: Tensor | None) -> float:
    assert tensor is not None
    return float(tensor.detach().double().square().mean().sqrt())


class Functional(nn.Module):
    """Activations as functions, a residual branch, a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.shared, self.last = nn.Linear(6, 6), nn.Linear(6, 3)
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        active = torch.sigmoid(first)
        second = self.second(active)
        total = active + F.relu(second)
        once = self.shared(total)
        twice = self.shared(torch.tanh(once))
        last = self.last(twice)
        self.kept = {
            "first": first,
            "sigmoid": active,
            "second": second,
            "add": total,
            "once": once,
            "twice": twice,
            "last": last,
        }
        for each in self.kept.values():
            each.retain_grad()
        return last


def test_the_numbers_are_those_of_the_tensors() -> None:
    torch.manual_seed(0)
    model, data = Functional(), torch.randn(5, 6)
    with sampled(model) as kept:
        train(model, lambda: model(data).square().mean())
    (batch,) = kept.batches
    assert (batch.step, batch.optimizer) == (1, 0)
    assert names(batch) == [
        "first Linear",
        "first sigmoid",
        "second Linear",
        "second relu",
        "second add",
        "shared Linear",
        "shared tanh",
        "shared Linear 1",
        "last Linear",
    ]
    places = {
        "first": ("first", "Linear", 0),
        "sigmoid": ("first", "sigmoid", 0),
        "second": ("second", "Linear", 0),
        "add": ("second", "add", 0),
        "once": ("shared", "Linear", 0),
        "twice": ("shared", "Linear", 1),
        "last": ("last", "Linear", 0),
    }
    for key, (name, kind, call) in places.items():
        tensor = model.kept[key]
        for field, expected in (
            ("rms", rms(tensor)),
            ("largest", float(tensor.detach().abs().max())),
            ("zeros", float((tensor == 0).double().mean())),
            ("numel", tensor.numel()),
            ("signal_rms", rms(tensor.grad)),
            ("signal_largest", float(tensor.grad.abs().max())),  # type: ignore[union-attr]
        ):
            assert number(batch, name, field, kind, call) == pytest.approx(expected, rel=1e-5), key
    into = number(batch, "second", "input_signal_rms", "Linear")
    assert into == pytest.approx(rms(model.kept["sigmoid"].grad), rel=1e-5)
    y = model.kept["sigmoid"]
    assert number(batch, "first", "saturated", "sigmoid") == pytest.approx(
        float((y * (1 - y) < 0.01).float().mean())
    )
    sources = [each.source for each in batch.subjects]
    assert sources == [-1, 0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_sampling_every_step_changes_no_bit_of_any_loop(loop: Loop) -> None:
    bare, random = loop.run(told_nothing), torch.get_rng_state()
    with sampled():
        seen = loop.run(told_nothing)
    assert torch.equal(random, torch.get_rng_state())
    for one, other in zip(bare, seen, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def test_nothing_is_left_on_modules_classes_and_torch() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LSTM(4, 4))
    before = [dict(vars(each)) for each in model.modules()]
    kinds = [type(each) for each in model.modules()]
    calls = [vars(kind).get("__call__") for kind in kinds]
    attention = F.scaled_dot_product_attention
    data = torch.randn(3, 4)
    within: list[bytes] = []

    def loss() -> Tensor:
        within.append(pickle.dumps(model))  # in the middle of a sampled step
        return model(data)[0].sum()

    with sampled(model) as kept:
        train(model, loss, 4)
    assert len(kept.batches) == 3
    assert [vars(kind).get("__call__") for kind in kinds] == calls
    assert F.scaled_dot_product_attention is attention
    for each, old in zip(model.modules(), before, strict=True):
        assert vars(each).keys() == old.keys()
        assert not each._forward_hooks
        assert not each._forward_pre_hooks
    assert len({len(each) for each in within}) == 1


def test_nothing_of_a_step_is_held_beyond_it() -> None:
    held: list[weakref.ref[Tensor]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            result = self.layer(x)
            held.append(weakref.ref(result))
            return torch.tanh(result)

    model = nn.Sequential(Watched(), nn.Linear(3, 3))
    with sampled(model) as kept:
        train(model, lambda: model(torch.randn(2, 3)).sum(), 3)
        gc.collect()
        assert kept.batches
        assert [each() for each in held] == [None] * 3


def test_a_step_that_is_not_sampled_makes_one_call_more() -> None:
    def num_calls(schedule: XraySchedule | None, without: bool = False) -> int:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        optimizer, data = torch.optim.SGD(model.parameters(), lr=0.1), torch.randn(2, 4)
        # the short way has its own list of who handles a step
        session = Session(ReferenceBackend(), [model], xray=schedule, short_ways=False)
        session.connect(SamplingOutlet(Sampled(session)))
        if without:
            own = session._xray.step_ends
            others = [each for each in session._handlers.step_ends if each != own]
            session._handlers.step_ends = tuple(others)
        HUB.attach(session)
        num = 0

        def count(_frame: object, event: str, _arg: object) -> None:
            nonlocal num
            num += event in ("call", "c_call")

        for step in range(7):
            if step == 5:
                sys.setprofile(count)
            optimizer.zero_grad()
            model(data).sum().backward()
            optimizer.step()
        sys.setprofile(None)
        HUB.detach(session)
        session.finish()
        return num

    def fewest(schedule: XraySchedule | None, without: bool = False) -> int:
        # where the machine is busy rows may be made between two of these steps
        return min(num_calls(schedule, without) for _ in range(3))

    num_calls(None)
    without = fewest(None, without=True)
    assert fewest(None) == without + 2  # steps that were counted
    assert fewest(XraySchedule(1000, 1.0, 1.0)) == without + 2


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_module_is_measured_once(reentrant: bool) -> None:
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
            self.last = nn.Linear(4, 2)
            self.checkpoints = True

        def forward(self, x: Tensor) -> Tensor:
            if self.checkpoints:
                inner: Any = checkpoint(self.inner, x, use_reentrant=reentrant)
            else:
                inner = self.inner(x)
            return self.last(inner)

    def run(checkpoints: bool) -> Any:
        torch.manual_seed(1)
        model, data = Block(), torch.randn(3, 4, requires_grad=True)
        model.checkpoints = checkpoints
        with sampled(model) as kept:
            train(model, lambda: model(data).square().sum())
        return kept.batches[0]

    whole, part = run(False), run(True)
    assert sorted(names(part)) == sorted(names(whole))
    for name in ("inner.0", "inner.1", "inner.2", "last"):
        for field in ("rms", "signal_rms"):
            assert number(part, name, field) == pytest.approx(number(whole, name, field))


def test_what_is_done_in_place_is_measured_before_it() -> None:
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 1)), None
    data = torch.randn(8, 4)
    expected = rms(model[0](data))
    with sampled(model) as kept:
        train(model, lambda: model(data).sum() * 0, 2)
    (batch,) = kept.batches
    assert number(batch, "0", "rms") == pytest.approx(expected)
    assert number(batch, "1", "zeros") > 0
    assert number(batch, "1", "saturated") == number(batch, "1", "zeros")
    assert [each.source for each in batch.subjects] == [-1, 0, 1]
    assert number(batch, "0", "signal_rms") == 0.0
    assert batch.was_measured("signal_rms").all()


def test_the_loss_scale_is_divided_out() -> None:
    def run(scale: float) -> Any:
        torch.manual_seed(0)
        model, data = nn.Linear(4, 4), torch.randn(3, 4)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with sampled(model) as kept:
            for _ in range(2):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    loss = model(data).float().square().mean()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        return kept.batches[0]

    one, scaled = run(1.0), run(4096.0)
    expected = number(one, "Linear", "signal_rms")
    assert number(scaled, "Linear", "signal_rms") == pytest.approx(expected, rel=1e-2)


def test_micro_batches_count_once_and_each_optimizer_has_its_own() -> None:
    generator, critic = nn.Linear(3, 3), nn.Linear(3, 1)
    both = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (generator, critic)]
    with sampled(generator, critic) as kept:
        for _ in range(3):
            for _ in range(2):
                critic(generator(torch.randn(2, 3)).detach()).sum().backward()
            both[1].step()
            both[1].zero_grad()
            critic(generator(torch.randn(2, 3))).sum().backward()
            both[0].step()
            both[0].zero_grad()
    found = [(each.step, each.optimizer, names(each)) for each in kept.batches]
    assert [step for step, _, _ in found] == [1, 2, 3, 4, 5]
    # the critic's optimizer makes the steps 0, 2 and 4
    assert [len(subjects) for _, _, subjects in found] == [2, 1, 2, 1, 2]
    first, second = ({optimizer for _, optimizer, _ in found[i::2]} for i in (0, 1))
    assert len(first) == len(second) == 1
    assert first != second


def test_no_number_is_nan_unless_it_is_one() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    data = torch.tensor([[math.nan, 1.0]])
    with sampled(model) as kept:
        train(model, lambda: model(data).sum())
    (batch,) = kept.batches
    assert math.isnan(number(batch, "0", "rms"))
    assert math.isnan(number(batch, "0", "largest"))
    assert batch.was_measured("rms").all()
    assert not batch.was_measured("attention_logit").any()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("needs_weights", [False, True])
def test_attention_is_measured_as_it_is(first: bool, needs_weights: bool) -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, batch_first=first)
    data = torch.randn(3, 5, 8)
    given = data if first else data.transpose(0, 1)
    mask = torch.ones(5, 5).triu(1).bool()
    hidden = torch.zeros(3, 5).bool()
    hidden[1, 4] = True

    def loss() -> Tensor:
        out, _ = model(
            given,
            given,
            given,
            attn_mask=mask,
            key_padding_mask=hidden,
            need_weights=needs_weights,
        )
        return out.sum() * 0.0  # so that the weights stay

    with sampled(model) as kept:
        train(model, loss)
    (batch,) = kept.batches
    assert names(batch) == ["MultiheadAttention MultiheadAttention"]
    model.requires_grad_(False)
    query, key, _ = F.linear(data, model.in_proj_weight, model.in_proj_bias).chunk(3, -1)
    split = [each.unflatten(-1, (2, 4)).transpose(1, 2) for each in (query, key)]
    logits = split[0] @ split[1].transpose(-1, -2) / 2
    logits = logits.masked_fill(mask | hidden[:, None, None, :], -math.inf)
    shown = logits > -math.inf
    weights, counts = logits.softmax(-1), shown.sum(-1)
    entropy = -torch.special.xlogy(weights, weights).sum(-1)
    share = (entropy / counts.log())[counts > 1].mean()
    name = "MultiheadAttention"
    assert number(batch, name, "attention_entropy") == pytest.approx(float(share), rel=1e-5)
    assert number(batch, name, "attention_logit") == pytest.approx(
        float(logits[shown].abs().max()), rel=1e-5
    )


@pytest.mark.parametrize("causal", [False, True])
def test_attention_as_a_function_belongs_to_the_module_that_calls_it(causal: bool) -> None:
    torch.manual_seed(0)
    seen: list[Tensor] = []

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = (
                each.unflatten(-1, (2, 4)).transpose(1, 2) for each in self.project(x).chunk(3, -1)
            )
            seen[:] = [query.detach(), key.detach()]
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
            return self.out(mixed.transpose(1, 2).flatten(2))

    model = nn.Sequential(Attention(), nn.Linear(8, 1))
    data = torch.randn(3, 5, 8)
    with sampled(model) as kept:
        train(model, lambda: model(data).sum())
    (batch,) = kept.batches
    assert names(batch) == [
        "0.project Linear",
        "0 scaled_dot_product_attention",
        "0.out Linear",
        "1 Linear",
    ]
    logits = seen[0] @ seen[1].transpose(-1, -2) / 2
    if causal:
        logits = logits.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    shown = logits > -math.inf
    kind = "scaled_dot_product_attention"
    assert number(batch, "0", "attention_logit", kind) == pytest.approx(
        float(logits[shown].abs().max()), rel=1e-5
    )
    weights = logits.softmax(-1)
    entropy = -torch.special.xlogy(weights, weights).sum(-1)
    counts = shown.sum(-1)
    share = (entropy / counts.log())[counts > 1].mean()
    assert number(batch, "0", "attention_entropy", kind) == pytest.approx(float(share), rel=1e-5)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("embeds", [False, True])
def test_what_reaches_each_step_of_a_sequence(kind: type[nn.RNNBase], embeds: bool) -> None:
    torch.manual_seed(0)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(3, 4) if embeds else nn.Identity()
            self.rnn, self.last = kind(4 if embeds else 3, 5, batch_first=True), nn.Linear(5, 1)
            self.given = torch.empty(0)

        def forward(self, x: Tensor) -> Tensor:
            self.given = self.before(x)
            if self.given.requires_grad:
                self.given.retain_grad()
            return self.last(self.rnn(self.given)[0][:, -1])

    model, data = Reader(), torch.randn(2, 7, 3)
    with sampled(model) as kept:
        train(model, lambda: model(data).square().sum())
    (batch,) = kept.batches
    steps = [at for at, each in enumerate(batch.subjects) if each.time >= 0]
    assert [batch.subjects[at].time for at in steps] == list(range(7))
    into = batch.column("input_signal_rms")[steps]
    assert np.isfinite(into).all()
    assert (into > 0).all()
    if embeds:
        assert model.given.grad is not None
        expected = model.given.grad.double().square().mean((0, 2)).sqrt()
        np.testing.assert_allclose(into, expected.numpy(), rtol=1e-5)
    assert (batch.column("signal_rms")[steps[:-1]] == 0).all()  # only the last one is read
    assert data.grad is None
    assert not data.requires_grad


def test_a_cell_has_a_row_for_each_call() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = x.new_zeros(x.shape[1], 3)
            for each in x:
                state = self.cell(each, state)
            return state

    model = Unrolled()
    with sampled(model) as kept:
        train(model, lambda: model(torch.randn(4, 2, 2)).sum())
    (batch,) = kept.batches
    assert names(batch) == ["cell GRUCell", *(f"cell GRUCell {call}" for call in (1, 2, 3))]
    signals = batch.column("signal_rms")
    assert (signals > 0).all()


def test_exceptions_of_the_program_pass_and_the_next_step_is_sampled() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.fails = nn.Linear(2, 2), False

        def forward(self, x: Tensor) -> Tensor:
            if self.fails:
                raise ValueError("of the program")
            return self.layer(x)

    model = nn.Sequential(Failing(), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sampled(model) as kept:
        for step in range(4):
            model[0].fails = step == 2
            if step == 2:
                with pytest.raises(ValueError, match="of the program"):
                    model(torch.randn(2, 2))
                model[0].fails = False
            optimizer.zero_grad()
            model(torch.randn(2, 2)).sum().backward()
            optimizer.step()
    assert [each.step for each in kept.batches] == [1, 2, 3]
    assert {tuple(names(each)) for each in kept.batches} == {("0.layer Linear", "1 Linear")}


def test_of_a_compiled_model_nothing_is_measured_and_that_is_said() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled: Any = torch.compile(model, backend="eager")
    data = torch.randn(2, 2)
    with sampled(compiled) as kept:
        train(model, lambda: compiled(data).sum(), 4)
    assert kept.batches == []
    (note,) = [each for each in kept.notes if each.kind == "xray"]
    assert note.message.render() == "the signals of modules that are compiled are not measured"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_compiled_function_is_not_compiled_again() -> None:
    # In a process of its own: what was compiled before decides how often dynamo compiles.
    call = "from tests.capture.test_xray import compile_while_sampled; compile_while_sampled()"
    subprocess.run([sys.executable, "-c", call], cwd=ROOT, timeout=300, check=True)


def compile_while_sampled() -> None:
    model, data = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), torch.randn(2, 2)

    @torch.compile(backend="eager")
    def loss() -> Tensor:
        return model(data).sum()

    with sampled(model) as kept:
        train(model, loss, 4)
    assert kept.batches == []
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_it_is_asked_for_and_otherwise_keeps_to_its_schedule() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sampled(model, schedule=XraySchedule(5, 1.0, 1.0)) as kept:
        for step in range(13):
            if step == 3:
                kept.session.xray()
            if step == 6:
                kept.session.xray_soon()
            optimizer.zero_grad()
            model(torch.randn(2, 2)).sum().backward()
            optimizer.step()
    assert [each.step for each in kept.batches] == [1, 3, 5, 7, 10]


def test_what_it_may_cost_decides_how_often() -> None:
    model = nn.Linear(2, 1)
    with sampled(model, schedule=XraySchedule(1, 0.0, 0.0)) as kept:
        train(model, lambda: model(torch.randn(2, 2)).sum(), 6)
    assert [each.step for each in kept.batches] == [1]


def test_gradients_are_off_where_nothing_is_trained() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sampled(model) as kept:
        for _ in range(3):
            with torch.no_grad():
                model(torch.randn(9, 2))
            optimizer.zero_grad()
            model(torch.randn(2, 2)).sum().backward()
            optimizer.step()
    assert [number(each, "Linear", "numel") for each in kept.batches] == [2, 2]


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_replicas_and_shards_are_measured_by_the_names_of_their_model(wrapper: str) -> None:
    if wrapper == "fsdp" and not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip("this torch cannot shard on the CPU")
    code = f"""
import torch, os
from torch import nn
from tests.capture.xrays import names, number, sampled, train
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
store = torch.distributed.HashStore()
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
torch.manual_seed(0)
model, data = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(3, 4)
if {wrapper!r} == "ddp":
    trained = nn.parallel.DistributedDataParallel(model)
else:
    from torch.distributed.fsdp import fully_shard
    fully_shard(model[0]), fully_shard(model)
    trained = model
kinds = [type(each) for each in model.modules()]
before = [vars(kind).get("__call__") for kind in kinds]
with sampled(trained) as kept:
    train(trained, lambda: trained(data).sum(), 3)
assert [vars(kind).get("__call__") for kind in kinds] == before
assert [each.step for each in kept.batches] == [1, 2], kept.batches
names_ = [each.split()[0] for each in names(kept.batches[0])]
assert names_ == ["0", "1", "2"], names_
assert number(kept.batches[0], "0", "signal_rms") > 0
torch.distributed.destroy_process_group()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_a_session_that_ends_within_a_sampled_step_leaves_no_call_on_a_class() -> None:
    class Own(nn.Linear):
        pass

    model = Own(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    one = Session(ReferenceBackend(), [model], [optimizer], replays=True)
    HUB.attach(one)
    try:
        for step in range(3):
            if step == 2:
                one.xray()
            optimizer.zero_grad()
            model(torch.randn(2, 2)).sum().backward()
            if step < 2:
                optimizer.step()
        assert "__call__" in vars(Own)
    finally:
        HUB.detach(one)
        one.finish()
    # What births hold lies below what the X-ray hears: neither may bring the other back.
    assert "__call__" not in vars(Own)


def test_a_module_that_is_called_inside_vmap_has_no_signals_and_does_no_harm() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)

    def drawn(x: Tensor) -> Tensor:
        given = torch.distributions.Normal(model(x), 1.0)
        return given.log_prob(given.sample()).sum()

    def loss_of() -> Tensor:
        return torch.func.vmap(drawn, randomness="different")(torch.ones(5, 4)).mean()

    with sampled(model) as kept:  # fails where a part of it did
        train(model, loss_of, 3)
    assert all(each.name != "model" for batch in kept.batches for each in batch.subjects)
