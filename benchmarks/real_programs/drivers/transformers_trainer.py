"""Transformers' Trainer on a language model: accumulation, a clip, a schedule with warm-up."""

from __future__ import annotations

from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import torch

set_seed(1)
config = GPT2Config(
    vocab_size=60,
    n_positions=32,
    n_embd=32,
    n_layer=2,
    n_head=2,
    bos_token_id=0,
    eos_token_id=0,
)
texts = torch.randint(0, 60, (192, 16))
samples = [{"input_ids": text, "labels": text} for text in texts]
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
    model=GPT2LMHeadModel(config),
    args=arguments,
    train_dataset=samples[:160],
    eval_dataset=samples[160:],
)
trainer.train()
