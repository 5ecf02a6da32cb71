"""Transformers' Trainer on a classifier, as in its course, with accumulation."""

from __future__ import annotations

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

import torch
from torch.utils.data import Dataset


class Sentences(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, num: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(3, 60, (num, 12), generator=generator)
        self.labels = (self.ids[:, 0] > 30).long()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {
            "input_ids": self.ids[index],
            "attention_mask": torch.ones(12, dtype=torch.long),
            "labels": self.labels[index],
        }


set_seed(1)
config = BertConfig(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    num_labels=2,
)
arguments = TrainingArguments(
    output_dir="out",
    num_train_epochs=3,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=4,
    learning_rate=1e-3,
    warmup_steps=5,
    max_grad_norm=0.5,
    logging_steps=5,
    eval_strategy="epoch",
    save_strategy="epoch",
    report_to="none",
    use_cpu=True,
)
trainer = Trainer(
    model=BertForSequenceClassification(config),
    args=arguments,
    train_dataset=Sentences(160),
    eval_dataset=Sentences(32),
)
trainer.train()
