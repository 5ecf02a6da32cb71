"""Pinned gradients: the same training passes, a changed one fails with its first parameter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import seismograd
from seismograd.cli import main
from seismograd.golden.comparison import Pinned, differing
from seismograd.golden.differences import measure_allowed
from seismograd.golden.fingerprint import Fingerprint, fingerprint_of
from seismograd.golden.golden_file import read_golden, write_golden
from seismograd.integrations.ulp_perturbation import UlpPerturbation
from seismograd.record.reader import open_run
from tests.documented_code import code_in

pytest_plugins = ["pytester"]

STEPS = 5
PLUGIN = ("-p", "no:seismograd", "-p", "seismograd.integrations.pytest_plugin")


class Attention(nn.Module):
    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.qkv, self.out, self.fused = nn.Linear(16, 48), nn.Linear(16, 16), fused

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (each.unflatten(-1, (2, 8)).transpose(1, 2) for each in self.qkv(x).chunk(3, -1))
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = torch.softmax(q @ k.transpose(-1, -2) * 8**-0.5, -1) @ v
        return x + self.out(mixed.transpose(1, 2).flatten(2))


def network(fused: bool = True) -> nn.Module:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
    return nn.Sequential(
        nn.Embedding(20, 16), Attention(fused), nn.LayerNorm(16), block, nn.Linear(16, 20)
    )


def trained(
    out: Path, seed: int = 0, fused: bool = True, factor: float = 1.0, sign: bool = False
) -> Fingerprint:
    model = network(fused)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    data = torch.Generator().manual_seed(1)
    perturbation = UlpPerturbation(seed) if seed else None
    with seismograd.watch(model, optimizer, out=out, quiet=True):
        for step in range(STEPS):
            tokens = torch.randint(0, 20, (4, 8), generator=data)
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
            (factor * loss).backward()
            if sign and step == 0:
                model[1].qkv.weight.grad[3:7] *= -1
            optimizer.step()
            optimizer.zero_grad()
    if perturbation is not None:
        perturbation.remove()
    return fingerprint_of(open_run(out), STEPS)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Pinned:
    folder = tmp_path_factory.mktemp("pinned")
    base, *perturbed = (trained(folder / str(seed), seed) for seed in range(5))
    write_golden(folder / "golden.json", Pinned(base, measure_allowed(base, perturbed)))
    return read_golden(folder / "golden.json")


def said(pinned: Pinned, other: Fingerprint) -> str:
    return "\n".join(message.render() for message in differing(pinned, other))


def test_the_same_training_and_rounding_pass(pinned: Pinned, tmp_path: Path) -> None:
    assert said(pinned, trained(tmp_path / "same")) == ""
    for seed in range(50, 54):  # none that the tolerance was measured with
        assert said(pinned, trained(tmp_path / str(seed), seed)) == ""
    assert said(pinned, trained(tmp_path / "unfused", fused=False)) == ""
    worst = max(float(pinned.allowed["norm"][0].max()), float(pinned.allowed["sketch"][0].max()))
    assert worst < 1e-3  # which is what makes the others fail


def test_another_loss_scale_names_the_first_parameter_and_the_factor(
    pinned: Pinned, tmp_path: Path
) -> None:
    text = said(pinned, trained(tmp_path / "run", factor=1.01))
    first, *rest = text.splitlines()
    assert first.startswith("step 0, the gradient of 0.weight: 1.01 times what it was (norm ")
    assert rest[0] == "at step 0, 13 of 13 parameters differ"
    assert rest[1].startswith("all of them by the same factor, 1.01: look at the loss")


def test_another_direction_of_the_same_norm_is_seen(pinned: Pinned, tmp_path: Path) -> None:
    text = said(pinned, trained(tmp_path / "run", sign=True))
    assert text.startswith("step 0, the gradient of 1.qkv.weight: other numbers or a sign")
    assert "1 of 13 parameters differ" in text


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's own, at any of these flags
def test_what_the_page_says_of_the_tolerance_holds(pinned: Pinned, tmp_path: Path) -> None:
    """The figures of docs/pinned.md."""
    for seed in range(50, 100):
        assert said(pinned, trained(tmp_path / str(seed), seed)) == ""
    with torch.backends.mkldnn.flags(enabled=False):
        assert said(pinned, trained(tmp_path / "without oneDNN")) == ""
    num_threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert said(pinned, trained(tmp_path / f"{number} threads")) == ""
    finally:
        torch.set_num_threads(num_threads)
    text = said(pinned, trained(tmp_path / "scaled", factor=1.000005))
    assert text.startswith("step 0, the gradient of ")


def test_what_is_not_finite_or_not_there_is_said(pinned: Pinned) -> None:
    base = pinned.fingerprint
    states = base.states.copy()
    states[2, 4] = 4
    other = Fingerprint(base.torch_version, base.parameters, states, base.norms, base.zeros)
    name = base.parameters[4].name
    assert said(pinned, other).startswith(f"step 2, the gradient of {name}: non-finite, it was: f")
    fewer = Fingerprint(
        base.torch_version,
        base.parameters[1:],
        base.states[:, 1:],
        base.norms[:, 1:],
        base.zeros[:, 1:],
    )
    assert "have no gradient now: 0.weight" in said(pinned, fewer)
    blank = Fingerprint(
        base.torch_version, base.parameters, 0 * base.states, base.norms * float("nan"), base.zeros
    )
    assert said(pinned, blank) == "no gradient was measured at step 0"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "seismograd golden", "version": 1}'])
def test_a_file_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(seismograd.SeismogradError, match="is no file of pinned gradients"):
        read_golden(path)


def documented_test(scale: str = "") -> str:
    """Return the example of the document, its loss multiplied."""
    (code,) = code_in("pinned.md", "python")
    return code.replace("            model(torch", f"            ({scale}model(torch").replace(
        ".mean()", ".mean())"
    )


def test_a_marked_test_compares_and_pin_writes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pytester.makepyfile(test_model=documented_test())
    failed = pytester.runpytest_inprocess(*PLUGIN)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["*there is no *small.json*seismograd pin*"])

    # In this process, as torch would start anew each time.
    def run(line: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ended = pytester.runpytest_inprocess(*line[3:])
        return subprocess.CompletedProcess(line, ended.ret, "\n".join(ended.outlines), "")

    monkeypatch.setattr("seismograd.cli.pin.subprocess.run", run)
    assert main(["--lang", "en", "pin", "--runs", "2", "-x", str(path)]) == 0
    assert "wrote small.json: 5 steps, 4 parameters" in capsys.readouterr().out
    written = json.loads((pytester.path / "small.json").read_text())
    assert written["parameters"][0]["name"] == "0.weight"
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)
    pytester.makepyfile(test_model=documented_test("2 * "))
    failed = pytester.runpytest_inprocess(*PLUGIN)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(
        [
            "the gradients are not those that are pinned in *small.json",
            "  step 0, the gradient of 0.weight: 2 times what it was (norm *",
            "  pinned with the same torch, *",
            "  record: *seismograd pin test_model.py::test_the_gradients*",
        ]
    )
    assert main(["--lang", "en", "pin", "--runs", "2", "-k", "nothing", str(path)]) == 1
    assert "pytest ended with 5: nothing is pinned" in capsys.readouterr().err


def test_what_is_marked_wrongly_is_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.gradients(golden="x.json")
        def test_unwatched(): pass

        @pytest.mark.gradients(golden="x.json", stpes=3)
        def test_misspelled(gradients): pass

        @pytest.mark.gradients
        def test_of_somebody_else(): pass
        """
    )
    ended = pytester.runpytest_inprocess(*PLUGIN)
    ended.assert_outcomes(passed=1, failed=2)
    ended.stdout.fnmatch_lines(
        ["the test does not use the fixture gradients*", "the marker takes golden*"]
    )


def test_pytest_within_seismograd_run_warns_of_nothing(pytestconfig: pytest.Config) -> None:
    from _pytest.assertion.rewrite import AssertionRewritingHook

    # As pytest does for each installed package that brings a plug-in; a warning is an error here.
    AssertionRewritingHook(pytestconfig).mark_rewrite("seismograd")


def test_tests_that_do_not_ask_import_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_plain():\n"
        "    assert 'seismograd.integrations.pytest_plugin' in sys.modules\n"
        "    assert not {'torch', 'numpy', 'rich', 'typer'} & sys.modules.keys()\n",
        encoding="utf-8",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGIN, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in ran.stdout, ran.stdout
