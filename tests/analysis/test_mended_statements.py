"""The script's own statement is written as it should read."""

from __future__ import annotations

from pathlib import Path

import pytest

from seismograd.analysis.mended_argument import with_factor
from seismograd.analysis.mended_line import mended_line
from seismograd.analysis.mended_loss import mended_loss
from seismograd.analysis.mended_switch import mended_switch
from seismograd.analysis.mended_term import with_graph, without_block
from seismograd.capture.source.switch_settings import switch_setting
from seismograd.schema import BirthReason


@pytest.mark.parametrize(
    ("text", "loss", "given", "mended"),
    [
        (
            "loss = F.cross_entropy(torch.softmax(net(x), dim=1), y)",
            "cross_entropy",
            "softmax",
            "loss = F.cross_entropy(net(x), y)",
        ),
        (
            "return self.criterion(out.sigmoid(), y)",
            "bce_with_logits",
            "sigmoid",
            "return self.criterion(out, y)",
        ),
        ("loss = F.cross_entropy(probs, y)", "cross_entropy", "softmax", ""),  # made elsewhere
        (
            "loss = F.nll_loss(net(x), y)",
            "nll",
            "logits",
            "loss = F.cross_entropy(net(x), y)",
        ),
        (
            "loss = F.nll_loss(F.softmax(z, dim=1), y)",
            "nll",
            "softmax",
            "loss = F.nll_loss(F.log_softmax(z, dim=1), y)",
        ),
        (
            "loss = F.kl_div(z.softmax(1), q)",
            "kl_div",
            "softmax",
            "loss = F.kl_div(z.log_softmax(1), q)",
        ),
        (
            "loss = mse(pred, y[idx])",
            "mse",
            "broadcast",
            "loss = mse(pred, y[idx].view_as(pred))",
        ),
        ("for x in (", "mse", "broadcast", ""),
    ],
)
def test_the_input_of_a_loss_is_mended(text: str, loss: str, given: str, mended: str) -> None:
    assert mended_loss(text, loss, given) == mended


def test_a_term_gets_its_graph_back() -> None:
    assert with_graph("loss = a + 0.1 * b.item()") == "loss = a + 0.1 * b"
    assert with_graph("loss = a + torch.tensor(b) + c.data") == "loss = a + b + c"
    assert with_graph("loss = a + b") == ""


def test_a_block_without_gradients_is_left_out() -> None:
    text = "with torch.no_grad(): h = self.body(h); k = torch.tanh(h)"
    code = "# with torch.no_grad():\nh = self.body(h)\nk = torch.tanh(h)"
    assert without_block(text) == code
    assert without_block("h = self.body(h)") == without_block("with (") == ""


def test_an_overflow_in_half_precision_is_computed_in_float32() -> None:
    text = "loss = ((out.half() * 4000.0) ** 2).mean()"
    mended = mended_line(text, "**", BirthReason.OVERFLOW, "forward", "float16")
    assert mended == "loss = ((out.half() * 4000.0).float() ** 2).mean()"


def test_what_keeps_a_number_from_zero_is_not_zero_in_float16() -> None:
    text = "loss = (a / b).mean()"
    in_half = mended_line(text, "/", BirthReason.ZERO, "forward", "float16")
    assert in_half == "loss = (a / b.clamp_min(1e-4)).mean()"
    others = mended_line(text, "/", BirthReason.ZERO, "forward", "bfloat16")
    assert others == "loss = (a / b.clamp_min(1e-8)).mean()"


def test_a_deviation_of_one_sample_gets_a_correction_of_zero() -> None:
    mended = mended_line("s = x.std(dim=0)", "std", BirthReason.ONE_SAMPLE, "forward")
    assert mended == "s = x.std(dim=0, correction=0)"


def test_an_attribute_that_nothing_reads_becomes_one_that_is_read() -> None:
    of_module = mended_switch("self.model.conv.requires_grad = True", "module")
    assert of_module == "self.model.conv.requires_grad_(True)"
    assert mended_switch("p.require_grad = False", "parameter") == "p.requires_grad = False"
    assert mended_switch("setattr(p, name, False)", "parameter") == ""
    assert mended_switch("", "module") == ""


def test_the_only_statement_that_sets_an_attribute_is_found(tmp_path: Path) -> None:
    (script := tmp_path / "train.py").write_text(
        "a.requires_grad = True\nb.requires_grad = False\nc.requires_grad = False\n"
    )
    found = switch_setting(str(script), "requires_grad", True)
    assert found is not None
    assert (found.line, found.text) == (1, "a.requires_grad = True")
    assert switch_setting(str(script), "requires_grad", False) is None
    assert switch_setting("", "requires_grad", False) is None


def test_a_statement_that_is_nested_too_deep_is_none() -> None:
    """Records may hold anything."""
    text = "loss = " + "-" * 100_000 + "1"
    assert with_graph(text) == without_block(text) == with_factor(text, 2.0) == ""
    assert mended_loss(text, "mse", "broadcast") == ""
