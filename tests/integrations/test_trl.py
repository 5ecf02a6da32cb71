"""The callback for Trainer in TRL's trainers: each step is recorded, and no bit changes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from seismograd.record.reader import open_run

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.extended]  # theirs; slow imports

WORDS = ["<pad>", "<eos>", "<unk>", "a", "b", "c", "d", "good", "bad", "what", "is", "this"]
STEPS = 3


def trl() -> Any:
    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("datasets", exc_type=ImportError)
        return pytest.importorskip("trl", exc_type=ImportError)


def tokenizer() -> Any:
    import tokenizers
    import transformers

    known = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    known.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=known, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def model() -> Any:
    import transformers

    transformers.set_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    return transformers.LlamaForCausalLM(config)


def options(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "seed": 0,
    }


def make(kind: str, folder: Path, callbacks: list[Any]) -> Any:
    import datasets

    library = trl()
    if kind == "SFT":
        rows = [{"text": "what is this a b c"}] * 8
        return library.SFTTrainer(
            model=model(),
            args=library.SFTConfig(**options(folder), max_length=16),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer(),
            callbacks=callbacks,
        )
    if kind == "DPO":
        rows = [{"prompt": "what is", "chosen": " good a", "rejected": " bad b"}] * 8
        return library.DPOTrainer(
            model=model(),
            ref_model=model(),
            args=library.DPOConfig(**options(folder), max_length=16),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer(),
            callbacks=callbacks,
        )
    rows = [{"prompt": "what is"}] * 8
    return library.GRPOTrainer(
        model=model(),
        reward_funcs=lambda completions, **_: [float(len(each)) for each in completions],
        args=library.GRPOConfig(**options(folder), num_generations=2, max_completion_length=4),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer(),
        callbacks=callbacks,
    )


@pytest.mark.parametrize("kind", ["SFT", "DPO", "GRPO"])
def test_each_step_is_recorded_and_no_bit_changes(kind: str, tmp_path: Path) -> None:
    trl()
    from seismograd.integrations.transformers import SeismogradCallback

    alone = make(kind, tmp_path, [])
    alone.train()
    watched = make(kind, tmp_path, [SeismogradCallback(out=tmp_path / "run", quiet=True)])
    watched.train()
    for one, other in zip(alone.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)
    run = open_run(tmp_path / "run")
    assert run.num_rows == watched.state.global_step == STEPS
    assert run.ended
    assert (run.steps["grad_norm"] >= 0).all()
