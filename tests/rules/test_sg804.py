"""SG804, and the targets of SG801 that are tokens: on graphs of losses, and on programs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from seismograd.capture.graph.attention_faults import attention_faults  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.loss_inputs import misplaced  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402
from tests.rules.token_faults import FAULTY, HEALTHY, LossOf, Tokens, trained  # noqa: E402

DROPOUT = [0.0, 0.1]  # with which torch computes attention in other ways


def faults(loss_of: LossOf, dropout: float, padding: int | None) -> list[str]:
    graph = LossGraph([loss_of(Tokens(dropout, padding), 0).grad_fn])
    return [*attention_faults(graph), *(fault.input for fault in misplaced(graph))]


@pytest.mark.parametrize("dropout", DROPOUT)
@pytest.mark.parametrize(("expected", "loss_of"), FAULTY.values(), ids=FAULTY)
def test_a_fault_is_known_from_the_graph(expected: str, loss_of: LossOf, dropout: float) -> None:
    for padding in (None, 0):
        assert faults(loss_of, dropout, padding) == [expected]


@pytest.mark.parametrize("dropout", DROPOUT)
@pytest.mark.parametrize("loss_of", HEALTHY.values(), ids=HEALTHY)
def test_nothing_is_said_of_what_is_right(loss_of: LossOf, dropout: float) -> None:
    for padding in (None, 0):
        assert faults(loss_of, dropout, padding) == []


@pytest.mark.parametrize(
    ("name", "code"), [("no mask", "SG804"), ("inverted", "SG804"), ("shifted twice", "SG801")]
)
def test_a_program_with_a_fault_is_told(name: str, code: str, tmp_path: Path) -> None:
    (finding,) = judged(trained(FAULTY[name][1]), tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == (code, "error", 0)
    assert finding.cause.render()
    assert "token_faults.py:" in finding.where


def test_the_statement_with_the_mask_is_shown_inverted(tmp_path: Path) -> None:
    (finding,) = judged(trained(FAULTY["inverted"][1]), tmp_path / "run")
    assert "src_key_padding_mask=~hidden" in finding.excerpt


def test_a_language_model_of_transformers(tmp_path: Path) -> None:
    """Its model shifts the labels itself."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=12, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(1, 12, (6, 12), generator=torch.Generator().manual_seed(0))
    right = LossGraph([model(input_ids=tokens, labels=tokens).loss.grad_fn])
    assert [*attention_faults(right), *misplaced(right)] == []
    twice = LossGraph([model(input_ids=tokens[:, :-1], labels=tokens[:, 1:]).loss.grad_fn])
    assert [fault.input for fault in misplaced(twice)] == ["tokens two ahead"]
    # the first prediction is left out: with each there comes the token after it
    logits = model(input_ids=tokens[:, :-1]).logits[:, 1:]
    late = F.cross_entropy(logits.flatten(0, 1), tokens[:, 2:].flatten())
    assert [*misplaced(LossGraph([late.grad_fn]))] == []
