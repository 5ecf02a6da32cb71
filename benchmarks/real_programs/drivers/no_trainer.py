"""The loop of Transformers' `run_clm_no_trainer.py`: two groups, accumulation, a clip."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import GPT2Config, GPT2LMHeadModel, get_scheduler

import torch
from torch.utils.data import DataLoader

accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
set_seed(1)
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=60,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
)
texts = torch.randint(0, 60, (64, 16))
samples = [{"input_ids": text, "labels": text} for text in texts]
loader = DataLoader(samples, batch_size=4, shuffle=True)
decayed, others = [], []
for name, parameter in model.named_parameters():
    (others if "bias" in name or "ln_" in name else decayed).append(parameter)
groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
schedule = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=4, num_training_steps=24)
model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
for _ in range(3):
    model.train()
    total = 0.0
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            total += loss.detach().float()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    print(float(total).hex())
accelerator.save_state("out")
