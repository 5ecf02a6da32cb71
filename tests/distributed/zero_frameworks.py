"""A training that hands DeepSpeed to a framework, or its launcher starts: zero_frameworks.py
trainer|accelerate|engine STAGE. Rank 0 prints the norms that DeepSpeed has clipped by.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"
warnings.simplefilter("ignore")

import deepspeed  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from tests.distributed.zero_cases import compile_no_extensions, config_of  # noqa: E402

STEPS, PARTS, LIMIT = 5, 2, 0.5

compile_no_extensions()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 13), nn.Linear(13, 3)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        out = self.second(torch.tanh(self.first(x)))
        return {"loss": (out - labels).square().mean(), "logits": out}


class Rows(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 8 * STEPS * PARTS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = torch.randn(6, generator=torch.Generator().manual_seed(index))
        return {"x": x, "labels": 2 * x[:3]}


def config(stage: int) -> dict[str, Any]:
    return config_of(stage, PARTS, LIMIT)


def trainer(stage: int) -> list[float]:
    """As transformers' Trainer: two groups of parameters, with and without weight decay."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        "trained",
        use_cpu=True,
        max_steps=STEPS,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=PARTS,
        learning_rate=0.01,
        max_grad_norm=LIMIT,
        deepspeed=config(stage),
        ddp_backend="gloo",
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    made = Trainer(Net(), arguments, train_dataset=Rows())
    made.train()
    return [float(each["grad_norm"]) for each in made.state.log_history if "grad_norm" in each]


def accelerate(stage: int) -> list[float]:
    """As a loop with accelerate, unchanged but for the plugin."""
    from accelerate import Accelerator, DeepSpeedPlugin

    accelerator = Accelerator(
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config(stage)),
        gradient_accumulation_steps=PARTS,
    )
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    loader = torch.utils.data.DataLoader(Rows(), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    norms: list[float] = []
    for number, rows in enumerate(loader):
        with accelerator.accumulate(model):
            accelerator.backward(model(**rows)["loss"])
            optimizer.step()
            optimizer.zero_grad()
        if number % PARTS == PARTS - 1:
            norms.append(float(model.get_global_grad_norm()))
    return norms


def engine(stage: int) -> list[float]:
    """As DeepSpeed's own tutorials."""
    deepspeed.init_distributed("gloo", verbose=False)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    made, _, loader, _ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config(stage), training_data=Rows()
    )
    norms: list[float] = []
    for number, rows in enumerate(loader):
        made.backward(made(**rows)["loss"])
        made.step()
        if number % PARTS == PARTS - 1:
            norms.append(float(made.get_global_grad_norm()))
    return norms


if __name__ == "__main__":
    how, number = sys.argv[1:]
    torch.set_num_threads(1)
    told = {"trainer": trainer, "accelerate": accelerate, "engine": engine}[how](int(number))
    if dist.get_rank() == 0:
        print(json.dumps({"norms": told}), flush=True)
    dist.destroy_process_group()
