"""Clipping gives torch's results where torch's are right, and right ones where they are not."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import utils

import seismograd
from seismograd.control.clip import gradient_norms, norm_clipping, norm_reuse
from seismograd.control.clip.gradient_norms import norms_of, total_of
from seismograd.measure import backend_selection
from seismograd.measure.backend_selection import has_kernel, host_backend
from seismograd.schema import EventKind

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NORM_TYPES = (1.0, 2.0, 3.0, math.inf)


def parameters(gradients: list[Tensor]) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = gradient.clone()
    return made


@st.composite
def gradient_lists(
    draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES, largest: float = 1e3
) -> list[Tensor]:
    """One to four gradients of a dtype."""
    dtype = draw(st.sampled_from(dtypes))
    shapes = draw(st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=4))
    numbers = st.floats(-largest, largest, width=32)
    return [
        torch.tensor(
            draw(st.lists(numbers, min_size=math.prod(s), max_size=math.prod(s))),
            dtype=torch.float64,
        )
        .reshape(s)
        .to(dtype)
        for s in shapes
    ]


@given(
    gradient_lists((torch.float32, torch.float64)),
    st.floats(1e-3, 1e4),
    st.sampled_from(NORM_TYPES),
)
def test_the_result_is_torchs_to_rounding(
    gradients: list[Tensor], max_norm: float, norm_type: float
) -> None:
    ours, theirs = parameters(gradients), parameters(gradients)
    total = seismograd.clip_grad_norm_(ours, max_norm, norm_type)
    expected = utils.clip_grad_norm_(theirs, max_norm, norm_type)
    torch.testing.assert_close(total.to(expected.dtype), expected, rtol=1e-5, atol=1e-30)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=2e-5, atol=1e-30)


@given(gradient_lists(), st.sampled_from(NORM_TYPES))
def test_the_norm_is_that_of_python(gradients: list[Tensor], norm_type: float) -> None:
    numbers = [
        abs(number) for gradient in gradients for number in gradient.double().flatten().tolist()
    ]
    largest = max(numbers)
    expected = (
        largest
        if math.isinf(norm_type) or not largest
        else math.fsum((n / largest) ** norm_type for n in numbers)
    )
    if math.isfinite(norm_type) and largest:
        expected = largest * expected ** (1 / norm_type)
    assert total_of(norms_of(gradients, norm_type), norm_type) == pytest.approx(
        expected, rel=1e-6, abs=1e-300
    )


@pytest.mark.parametrize(
    ("value", "count", "dtype"),
    [
        (3e19, 1000, torch.float32),
        (1e-30, 1000, torch.float32),
        (100.0, 1_000_000, torch.float16),
        (3e38, 10, torch.float32),
    ],
    ids=str,
)
def test_the_norm_neither_overflows_nor_underflows(
    value: float, count: int, dtype: torch.dtype
) -> None:
    (parameter,) = made = parameters([torch.full((count,), value, dtype=dtype)])
    exact = float(torch.tensor(value, dtype=dtype)) * math.sqrt(count)
    total = seismograd.clip_grad_norm_(made, exact / 2)
    assert total.item() == pytest.approx(exact, rel=1e-6)
    assert parameter.grad is not None
    after = parameter.grad.double().norm().item()
    assert after <= exact / 2 * 1.001
    if exact > 1:  # below, the 1e-6 that torch adds to the norm takes its share
        assert after == pytest.approx(exact / 2, rel=1e-3)


@given(gradient_lists(), st.floats(1e-4, 1e4))
def test_the_norm_after_is_at_most_the_limit_and_the_direction_stays(
    gradients: list[Tensor], max_norm: float
) -> None:
    made = parameters([gradient.double() for gradient in gradients])
    before = math.hypot(*(gradient.double().norm().item() for gradient in gradients))
    seismograd.clip_grad_norm_(made, max_norm)
    after = math.hypot(*(p.grad.norm().item() for p in made if p.grad is not None))
    assert after <= max_norm * (1 + 1e-6)
    if before <= max_norm - 1e-6:
        assert all(
            torch.equal(p.grad, g.double())
            for p, g in zip(made, gradients, strict=True)
            if p.grad is not None
        )
    elif before > 0:
        for parameter, gradient in zip(made, gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient.double() * (after / before))


def test_an_infinite_limit_changes_nothing() -> None:
    (parameter,) = made = parameters([torch.full((10,), 3e38)])
    seismograd.clip_grad_norm_(made, math.inf)
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.full((10,), 3e38))


def test_no_gradient_at_all_has_norm_zero() -> None:
    assert seismograd.clip_grad_norm_([nn.Parameter(torch.ones(3))], 1.0).item() == 0.0
    assert seismograd.clip_grad_norm_([], 1.0).item() == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
class TestNotFinite:
    def model(self, bad: float) -> nn.Sequential:
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        assert model[2].weight.grad is not None
        model[2].weight.grad[0, 1] = bad
        return model

    def test_by_default_it_is_named_and_torch_is_followed(self, bad: float) -> None:
        ours, theirs = self.model(bad), self.model(bad)
        with pytest.warns(RuntimeWarning, match=r"2\.weight"):
            total = seismograd.clip_grad_norm_(ours.named_parameters(), 1.0)
        expected = utils.clip_grad_norm_(theirs.parameters(), 1.0)
        assert not math.isfinite(total)
        assert not math.isfinite(expected)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(torch.nan_to_num(mine.grad), torch.nan_to_num(other.grad))  # type: ignore[arg-type]

    def test_it_can_raise_as_torch_does_and_says_where(self, bad: float) -> None:
        model = self.model(bad)
        before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        with pytest.raises(RuntimeError, match=r"2\.weight"):
            seismograd.clip_grad_norm_(model.named_parameters(), 1.0, error_if_nonfinite=True)
        with pytest.raises(seismograd.NonFiniteGradientError) as raised:
            seismograd.clip_grad_norm_(model.parameters(), 1.0, nonfinite="raise")
        assert raised.value.parameters == ("2.weight",)  # found among the script's own variables
        for parameter, gradient in zip(model.parameters(), before, strict=True):
            assert torch.equal(torch.nan_to_num(parameter.grad), torch.nan_to_num(gradient))  # type: ignore[arg-type]

    def test_it_can_skip_and_count(self, bad: float) -> None:
        skips = seismograd.Skips()
        for count in (1, 2):
            model = self.model(bad)
            with pytest.warns(RuntimeWarning, match=r"2\.weight"):
                seismograd.clip_grad_norm_(model.named_parameters(), 1.0, nonfinite=skips)
            assert all(p.grad is None for p in model.parameters())
            assert (skips.count, skips.parameters) == (count, ("2.weight",))

    def test_clipping_by_value_can_too(self, bad: float) -> None:
        model = self.model(bad)
        with pytest.raises(seismograd.NonFiniteGradientError, match=r"2\.weight"):
            seismograd.clip_grad_value_(model.named_parameters(), 0.5, nonfinite="raise")
        with pytest.warns(RuntimeWarning, match=r"2\.weight"):
            seismograd.clip_grad_value_(model.named_parameters(), 0.5, nonfinite="skip")
        assert all(p.grad is None for p in model.parameters())


def test_an_unknown_policy_is_refused_at_once() -> None:
    with pytest.raises(seismograd.SeismogradError, match="'ignore'"):
        seismograd.clip_grad_norm_([], 1.0, nonfinite="ignore")  # type: ignore[arg-type]


@given(gradient_lists(), st.floats(1e-3, 1e3))
def test_clipping_by_value_is_torchs(gradients: list[Tensor], limit: float) -> None:
    ours, theirs = parameters(gradients), parameters(gradients)
    seismograd.clip_grad_value_(ours, limit)
    utils.clip_grad_value_(theirs, limit)
    assert all(
        torch.equal(a.grad, b.grad)
        for a, b in zip(ours, theirs, strict=True)
        if a.grad is not None and b.grad is not None
    )


@pytest.mark.parametrize("home", [seismograd, utils])
def test_a_session_records_the_clip_as_it_records_torchs(home: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    norms = []
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for _ in range(3):
            model(torch.ones(5, 4)).square().mean().backward()
            norms.append(float(home.clip_grad_norm_(model.parameters(), 0.5)))
            optimizer.step()
            optimizer.zero_grad()
    run = seismograd.open_run(tmp_path / "run")
    assert run.steps["clip_norm"].tolist() == pytest.approx(norms, rel=1e-6)
    assert run.steps["grad_norm"].tolist() == pytest.approx(norms, rel=1e-6)
    assert run.steps["clip_limit"].tolist() == [0.5] * 3
    assert run.steps["applied_norm"].tolist() == pytest.approx([0.5] * 3, rel=1e-5)
    assert run.steps["flags"].tolist() == [0] * 3
    clips = run.events[run.events["kind"] == EventKind.CLIP]
    assert clips["value"].tolist() == pytest.approx(norms, rel=1e-6)
    assert clips["detail"].tolist() == [1] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_a_session_has_just_read_is_not_read_again_and_has_the_same_bits(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_kernel():
        pytest.skip("the kernel was not built")
    reads: list[int] = []

    def counted(parts: list[Tensor], norm_type: float) -> Any:
        reads.append(len(parts))
        return measured(parts, norm_type)

    def train(session: bool) -> tuple[list[float], list[Tensor]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 70), nn.Tanh(), nn.Linear(70, 3)).to(dtype)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        recording = (
            seismograd.watch(model, optimizer, out=tmp_path / f"{dtype}") if session else None
        )
        found = []
        for step in range(4):
            model(torch.full((5, 300), step + 1.0, dtype=dtype)).float().square().mean().backward()
            if step == 2:
                model[0].weight.grad = model[0].weight.grad * 1.0  # type: ignore[operator]
            found.append(seismograd.clip_grad_norm_(model.parameters(), 0.5).item())
            # what was read is no longer so
            found.append(seismograd.clip_grad_norm_(model.parameters(), 0.25).item())
            optimizer.step()
            optimizer.zero_grad()
        if recording is not None:
            recording.close()
        return found, [p.detach().clone() for p in model.parameters()]

    measured = gradient_norms._of_parts
    monkeypatch.setattr(gradient_norms, "_of_parts", counted)
    watched, weights_watched = train(session=True)
    assert len(reads) == 4  # the second clip of each step
    alone, weights_alone = train(session=False)
    assert len(reads) == 4 + 8
    assert watched == alone
    assert all(torch.equal(a, b) for a, b in zip(weights_watched, weights_alone, strict=True))


needs_kernel = pytest.mark.skipif(not has_kernel(), reason="the kernel was not built")


@needs_kernel
def test_clips_of_a_thread_share_one_backend_and_threads_do_not() -> None:
    assert host_backend() is host_backend()
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(host_backend).result(60) is not host_backend()


@needs_kernel
def test_what_was_clipped_before_leaves_no_trace_in_a_norm() -> None:
    """Neither a sparse gradient in the same place, which the reference reads, nor another model."""
    torch.manual_seed(0)
    gradients = [torch.randn(300, 70), torch.randn(70), torch.randn(70, 3)]
    with ThreadPoolExecutor(1) as thread:
        alone = thread.submit(norms_of, gradients).result(60).tolist()
    norms_of([torch.eye(3).to_sparse(), *gradients[1:]])
    norms_of([gradient.double() for gradient in gradients])
    norms_of([gradient.clone() for gradient in reversed(gradients)])
    for _ in range(2):
        assert norms_of(gradients).tolist() == alone


def test_threads_that_clip_at_once_do_not_disturb_each_other() -> None:
    def clip(number: int) -> set[float]:
        held = parameters([torch.full((200, 50), number + 1.0), torch.zeros(50)])
        return {seismograd.clip_grad_norm_(held, 1e9).item() for _ in range(50)}

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(clip, range(4)))
    assert found == [{(number + 1.0) * 100} for number in range(4)]


def test_without_the_kernel_no_norm_is_reused_whatever_torch_was_built_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference sums what it reads together, so its bits depend on who watches."""
    monkeypatch.setattr(backend_selection, "load", lambda: None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    reused: list[Any] = []

    def kept(held: list[Tensor]) -> Any:
        reused.append(norm_reuse.norms_just_read(held))
        return reused[-1]

    monkeypatch.setattr(norm_clipping, "norms_just_read", kept)
    model = nn.Linear(3, 2)
    with seismograd.watch(model, out=tmp_path / "run"):
        model(torch.ones(1, 3)).sum().backward()
        seismograd.clip_grad_norm_(model.parameters(), 0.5)
    assert reused == [None]
