"""SG401, SG402 and SG403 on programs in which the wrong tensors are held or frozen."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.record.reader import open_run  # noqa: E402
from tests.rules import held_faults  # noqa: E402
from tests.rules.held_faults import FAULTY, HEALTHY  # noqa: E402
from tests.rules.programs import Listen, Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "words", "program"), FAULTY.values(), ids=FAULTY)
def test_it_is_found_with_its_cause(
    code: str, words: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert words in findings[0].cause.render()


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_looks_like_it_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


@pytest.mark.parametrize(
    ("program", "excerpt"),
    [
        ("new head", 'optimizer.add_param_group({"params": network.head.parameters()})'),
        ("layer of the second", 'opt_g.add_param_group({"params": generator[2].parameters()})'),
        ("state assigned", "optimizer = torch.optim.Adam(network.parameters(), lr=…)"),
    ],
)
def test_an_excerpt_names_the_variables_of_the_script(
    program: str, excerpt: str, tmp_path: Path
) -> None:
    (finding,) = judged(FAULTY[program][2], tmp_path / "run")
    assert finding.excerpt.startswith(excerpt)


def test_what_a_custom_function_withholds_is_named_with_its_backward(tmp_path: Path) -> None:
    (finding,) = judged(FAULTY["withheld"][2], tmp_path / "run")
    assert (finding.severity, finding.parameters) == ("error", ("first",))
    file, _, line = finding.where.rpartition(":")
    assert file.endswith("held_faults.py")
    source = Path(held_faults.__file__).read_text("utf-8").splitlines()
    assert source[int(line) - 1].startswith("    def backward(ctx: Any, gradient: Tensor)")
    assert "Scaled.apply" in finding.excerpt


@pytest.mark.extended
@pytest.mark.parametrize("is_trainable", [False, True])
def test_an_adapter_that_peft_has_loaded(is_trainable: bool, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=2, target_modules=["model.body.0"], lora_dropout=0.0)
    peft.get_peft_model(_Outer(), settings).save_pretrained(tmp_path / "adapter")

    def program(listen: Listen) -> None:
        loaded = peft.PeftModel.from_pretrained(
            _Outer(), tmp_path / "adapter", is_trainable=is_trainable
        )
        model = torch.nn.Sequential(loaded, torch.nn.Linear(4, 4))
        optimizer = held_faults.adam(model)
        with listen():
            held_faults.fit(model, optimizer)

    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == ([] if is_trainable else ["SG403"])
    if findings:
        assert "is_trainable=True" in findings[0].excerpt


class _Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = held_faults.Net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)
