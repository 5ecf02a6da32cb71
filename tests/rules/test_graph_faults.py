"""The rules that know their cause from the graph of the loss, on real training programs."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import FactKind, ZeroCause  # noqa: E402
from tests.rules.graph_faults import (  # noqa: E402
    CONSTANT_NORM,
    CONSTANT_TERM,
    HEALTHY,
    HOOKED,
    NEVER_STEPPED,
    NOT_OPTIMIZED,
    SWITCHED,
    WRONG_LOSS_INPUT,
    ZERO_GRADIENT,
    ZERO_WEIGHTS,
    ActorCritic,
    Detached,
    Program,
    WithoutGrad,
    cut_in_the_second_stage,
    ppo_of_live,
    quantized,
    saturated,
    thawed_in_the_second_stage,
    training,
)
from tests.rules.test_programs import judged  # noqa: E402

CAUSES = {
    "softmax of one": ZeroCause.SOFTMAX_OF_ONE,
    "one class": ZeroCause.SOFTMAX_OF_ONE,
    "ratio of live": ZeroCause.WITH_ITSELF,
    "labels masked": ZeroCause.IGNORED,
    "boxes apart": ZeroCause.NO_OVERLAP,
    "softmax over the wrong dimension": ZeroCause.SOFTMAX_OF_ONE,
    "both factors zero": ZeroCause.ZERO_WEIGHT,
    "last relu negative": ZeroCause.FLAT,
    "last clamp": ZeroCause.FLAT,
    "rounded output": ZeroCause.ROUNDING,
    "weights of zeros": ZeroCause.ZERO_WEIGHT,
    "alike rewards": ZeroCause.ZERO_FACTOR,
    "loss times zero": ZeroCause.ZERO_FACTOR,
    "compared with itself": ZeroCause.WITH_ITSELF,
    "sign inside": ZeroCause.ROUNDING,
    "round inside": ZeroCause.ROUNDING,
    "straight through, not detached": ZeroCause.ROUNDING,
}


@pytest.mark.parametrize("program", WRONG_LOSS_INPUT.values(), ids=WRONG_LOSS_INPUT)
def test_what_a_loss_was_given_by_mistake_is_found(program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [(finding.code, finding.severity, finding.first_step) for finding in findings] == [
        ("SG801", "error", 0)
    ]
    assert "graph_faults.py:" in findings[0].where
    assert findings[0].cause.render()


@pytest.mark.parametrize(("excerpt", "program"), CONSTANT_NORM.values(), ids=CONSTANT_NORM)
def test_a_normalization_over_one_number_is_named(
    excerpt: str, program: Program, tmp_path: Path
) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG109", "error", 0)
    assert finding.parameters == ("body.weight", "body.bias", "norm.weight")
    assert finding.cause.render().startswith("`norm` (")
    assert finding.excerpt == excerpt


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_codebook_behind_a_straight_through_estimator(by_hand: bool, tmp_path: Path) -> None:
    (finding,) = judged(quantized(by_hand), tmp_path / "run")
    assert (finding.code, finding.parameters) == ("SG402", ("codes.weight",))
    if by_hand:  # nothing has to come from the loss
        assert finding.severity == "warning"
        assert not finding.excerpt
        return
    assert finding.severity == "error"
    assert "passes the gradient of its result on to z and nothing to q" in finding.cause.render()
    assert finding.excerpt == "loss = loss + F.mse_loss(q, z.detach())"


def test_what_a_custom_function_has_cut_off_is_dead(tmp_path: Path) -> None:
    (finding,) = judged(saturated(20), tmp_path / "run")
    assert (finding.code, finding.first_step, finding.last_step) == ("SG104", 21, 109)
    assert finding.parameters == ("gates.weight", "gates.bias")
    assert finding.cause.render().startswith("ClippedSign.backward returns only zeros")
    file, _, line = finding.where.rpartition(":")
    source = Path(inspect.getfile(ActorCritic)).read_text("utf-8").splitlines()
    assert file.endswith("graph_faults.py")
    assert source[int(line) - 1].startswith("    def backward(ctx: Any, gradient: Tensor)")


@pytest.mark.parametrize(("kind", "program"), ZERO_GRADIENT.items(), ids=ZERO_GRADIENT)
def test_gradients_of_nothing_but_zeros_have_a_cause(
    kind: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [(finding.code, finding.severity, finding.first_step) for finding in findings] == [
        ("SG109", "error", 0)
    ]
    told = [
        fact for fact in open_run(tmp_path / "run").facts if fact.kind == FactKind.ZERO_GRADIENT
    ]
    assert told[0].text("cause") == CAUSES[kind]
    expected = ("0.weight", "0.bias") if kind.endswith("inside") else told[0].parameters
    assert findings[0].parameters == expected
    assert len(told) < 10


def test_an_actor_whose_ratio_is_with_itself_is_found_beside_its_critic(tmp_path: Path) -> None:
    (finding,) = judged(training(ppo_of_live, ActorCritic, steps=40), tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG109", "error")
    assert all(name.startswith("actor.") for name in finding.parameters)
    assert "detach" in finding.excerpt
    assert "6 parameters" in finding.cause.render()


@pytest.mark.parametrize(("program", "names"), ZERO_WEIGHTS.values(), ids=ZERO_WEIGHTS)
def test_weights_of_zeros_that_multiply_each_other_are_found(
    program: Program, names: tuple[str, ...], tmp_path: Path
) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity, finding.parameters) == ("SG109", "error", names)
    assert (finding.first_step, finding.last_step) == (0, finding.last_step // 10 * 10)
    assert finding.last_step >= 20
    assert "graph_faults.py:" in finding.where


@pytest.mark.parametrize("program", NEVER_STEPPED.values(), ids=NEVER_STEPPED)
def test_backwards_that_nothing_uses_are_found(program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [(finding.code, finding.severity) for finding in findings] == [("SG311", "error")]
    assert "graph_faults.py:" in findings[0].where


@pytest.mark.parametrize(("program", "parameters"), SWITCHED.values(), ids=SWITCHED)
def test_an_attribute_that_nothing_reads_is_found(
    program: Program, parameters: tuple[str, ...], tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [(finding.code, finding.parameters) for finding in findings] == [("SG403", parameters)]
    assert "`requir" in findings[0].cause.render()
    assert ".requires_grad" in findings[0].excerpt


@pytest.mark.parametrize(("program", "first"), NOT_OPTIMIZED.values(), ids=NOT_OPTIMIZED)
def test_a_part_of_the_model_that_no_optimizer_holds_is_found(
    program: Program, first: str, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [(finding.code, finding.severity, finding.parameters[0]) for finding in findings] == [
        ("SG401", "error", first)
    ]
    module = {"0.weight": "model[0]", "decoder.0.weight": "model.decoder"}[first]
    assert f"*{module}.parameters()" in findings[0].excerpt


def test_what_an_optimizer_held_in_an_earlier_stage_is_not_held_any_more(tmp_path: Path) -> None:
    (finding,) = judged(thawed_in_the_second_stage, tmp_path / "run")
    assert (finding.code, finding.severity, finding.optimizer) == ("SG401", "error", 1)
    assert finding.parameters == ("0.weight", "0.bias", "2.weight", "2.bias")


def test_what_was_trained_in_an_earlier_stage_may_get_no_gradient_in_the_next(
    tmp_path: Path,
) -> None:
    (finding,) = judged(cut_in_the_second_stage, tmp_path / "run")
    assert (finding.code, finding.severity, finding.optimizer) == ("SG402", "error", 1)
    assert finding.parameters == ("2.weight", "2.bias")
    assert finding.first_step == 40


@pytest.mark.parametrize("program", CONSTANT_TERM.values(), ids=CONSTANT_TERM)
def test_a_term_without_a_graph_is_found(program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [(finding.code, finding.severity) for finding in findings] == [("SG802", "warning")]
    assert "graph_faults.py:" in findings[0].where


@pytest.mark.parametrize(("program", "factor"), HOOKED.values(), ids=HOOKED)
def test_hooks_that_scale_all_gradients_are_found(
    program: Program, factor: float, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == ["SG310"]
    assert findings[0].evidence[0].value == pytest.approx(factor)


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_looks_like_it_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    run = open_run(tmp_path / "run")
    statuses = diagnose(run.blocks(), facts=run.facts).statuses()
    assert not [
        status.reason.render() for status in statuses if status.reason.render().startswith("failed")
    ]
    assert not [note for note in run.notes if note.kind == "failure"]


def test_losses_that_are_summed_are_why_they_are_not_compared(tmp_path: Path) -> None:
    program = HEALTHY["two terms"]
    judged(program, tmp_path / "run")
    run = open_run(tmp_path / "run")
    made = diagnose(run.blocks(64), notes=run.notes, facts=run.facts)
    reasons = {each.code: each.reason.render() for each in made.statuses()}
    for code in ("SG601", "SG602"):
        assert "the losses are summed before backward at " in reasons[code]
        assert "(2 terms)" in reasons[code]


@pytest.mark.parametrize(
    ("model", "excerpt", "line"),
    [
        (Detached, "return self.head(h)", "return self.head(h.detach())"),
        (
            WithoutGrad,
            "# with torch.no_grad():\nh = torch.tanh(self.body(x))",
            "with torch.no_grad():",
        ),
    ],
)
def test_the_statement_that_cuts_the_graph_is_shown_as_it_should_read(
    model: type[torch.nn.Module], excerpt: str, line: str, tmp_path: Path
) -> None:
    program = training(lambda m, x, y: torch.nn.functional.cross_entropy(m(x), y), model)
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.excerpt) == ("SG402", excerpt)
    file, _, number = finding.where.rpartition(":")
    assert file.endswith("graph_faults.py")
    source = Path(inspect.getfile(model)).read_text().splitlines()
    assert source[int(number) - 1].strip() == line
