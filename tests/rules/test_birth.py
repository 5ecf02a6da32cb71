"""What SG201 and SG202 say of the operation in which the first non-finite number arose."""

from __future__ import annotations

import pytest

from seismograd.analysis.birth_words import BACKWARD, FORWARD, words
from seismograd.analysis.mended_line import mended_line
from seismograd.i18n import use_language
from seismograd.rules import NonfiniteGradient, NonfiniteLoss
from seismograd.schema import BirthReason, Fact
from tests.rules.cutting import result
from tests.synthetic import block


def birth(**values: float | str) -> Fact:
    of_root: dict[str, float | str] = {
        "of": "gradient",
        "phase": "backward",
        "operation": "sqrt",
        "reason": "zero",
        "num": 3,
        "numel": 64,
        "num_samples": 3,
        "batch": 64,
        "samples": "7 19 40",
        "module": "norm1",
        "text": "x = x / x.pow(2).sum(1, keepdim=True).sqrt()",
    }
    return Fact("birth", 1, "model.py:31", values={**of_root, **values})


def test_a_gradient_is_explained_in_one_sentence() -> None:
    made = block([[1.0, 1.0], [1.0, float("nan")]], loss=[0.5, 0.4])
    (finding,), _ = result([made], rules=(NonfiniteGradient,), facts=[birth()])
    assert finding.cause.render().startswith(
        "step 1: `sqrt` at model.py:31 (in `norm1`) got 3 zeros among 64 numbers; its derivative "
        "there is infinite: samples 7, 19, 40 of the batch of 64; the loss is finite (0.4)"
    )
    assert (finding.where, finding.seen_only) == ("model.py:31", False)
    assert finding.excerpt == "x = x / (x.pow(2).sum(1, keepdim=True) + 1e-8).sqrt()"


@pytest.mark.parametrize(
    ("made_by", "excerpt"),
    [
        ("sigmoid", "log_p = F.logsigmoid(logits)"),
        ("sigmoid addmm", "log_p = F.logsigmoid(logits)"),
        ("rsub sigmoid", "log_1_minus_p = F.logsigmoid(-logits)"),
        ("rsub softmax", "log_p = F.log_softmax(logits, dim=-1)"),
        ("", "log_p = F.log_softmax(logits, dim=-1)"),
    ],
)
def test_the_logarithm_of_a_sigmoid_has_a_mend_of_its_own(made_by: str, excerpt: str) -> None:
    fact = birth(of="loss", phase="forward", operation="log", text="", made_by=made_by)
    assert words(fact)[2] == excerpt


@pytest.mark.parametrize("rule", [NonfiniteGradient, NonfiniteLoss])
def test_a_loss_is_explained_by_both_rules(rule: type) -> None:
    norm = [[1.0, 1.0], [float("nan")] * 2]
    made = block(norm, loss=[0.5, float("inf")])
    fact = birth(of="loss", phase="forward", operation="log", text="", module="")
    (finding,), _ = result([made], rules=(rule,), facts=[fact])
    assert "`log` at model.py:31 got 3 zeros" in finding.cause.render()
    assert "log_softmax" in finding.advice.render()


def test_a_birth_of_another_step_explains_nothing() -> None:
    made = block([[1.0], [1.0], [float("nan")]], loss=[0.5, 0.4, 0.3])
    (finding,), _ = result([made], rules=(NonfiniteGradient,), facts=[birth()])
    assert "sqrt" not in finding.cause.render().split(":")[0]
    assert finding.where != "model.py:31"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("reason", BirthReason)
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_every_reason_has_words(reason: BirthReason, phase: str, lang: str) -> None:
    cause, advice, _ = words(birth(reason=str(reason), phase=phase))
    with use_language(lang):
        assert "{" not in cause.render()
        assert advice.render()
    assert set(BACKWARD) <= set(FORWARD) == set(BirthReason)


@pytest.mark.parametrize(
    ("line", "operation", "reason", "phase", "mended"),
    [
        ("return torch.log(p)", "log", "zero", "forward", "return torch.log(p.clamp_min(1e-8))"),
        ("y = x.softmax(1).log()", "log", "zero", "forward", "y = x.log_softmax(1)"),
        ("y = torch.log(F.softmax(x, 1))", "log", "zero", "forward", "y = F.log_softmax(x, 1)"),
        ("y = torch.sigmoid(x).log()", "log", "zero", "forward", "y = F.logsigmoid(x)"),
        ("m = s / n.sum()", "/", "zero", "forward", "m = s / n.sum().clamp_min(1e-8)"),
        ("d = x ** 0.5", "**", "zero", "backward", "d = (x + 1e-8) ** 0.5"),
        ("d = (x * m).pow(0.3)", "**", "zero", "backward", "d = (x * m + 1e-8).pow(0.3)"),
        ("d = torch.pow(x, p)", "**", "zero", "backward", "d = torch.pow(x + 1e-8, p)"),
        ("a = torch.acos(c)", "acos", "outside", "backward", None),
        ("for y in x.exp():", "exp", "overflow", "forward", "for y in x.clamp(max=80.0).exp():"),
        ("a = b / c / d", "/", "zero", "forward", ""),  # which of the two?
        ("x = f(", "log", "zero", "forward", ""),
        ("", "log", "zero", "forward", ""),
    ],
)
def test_a_line_is_written_as_it_should_read(
    line: str, operation: str, reason: str, phase: str, mended: str | None
) -> None:
    shown = mended_line(line, operation, reason, phase)
    if mended is None:
        assert shown == "a = torch.acos(c.clamp(-0.999999, 0.999999))"
    else:
        assert shown == mended
