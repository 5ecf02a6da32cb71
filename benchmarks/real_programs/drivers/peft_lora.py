"""LoRA on a frozen model, as in PEFT's quick tour: only the adapters train."""

from __future__ import annotations

from peft import LoraConfig, TaskType, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

import torch

set_seed(1)
base = GPT2LMHeadModel(
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
task = TaskType.CAUSAL_LM
lora = LoraConfig(task_type=task, r=4, lora_alpha=8, lora_dropout=0.1, fan_in_fan_out=True)
model = get_peft_model(base, lora)
model.print_trainable_parameters()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
texts = torch.randint(0, 60, (160, 16))
for epoch in range(2):
    for batch in texts.split(8):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(epoch, loss.item().hex())
model.save_pretrained("out")
