"""A classifier of texts, with a loss of its own in a subclass of Transformers' Trainer."""
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

SEED = int(os.environ.get("SEED", 0))
set_seed(SEED)


class Texts(Dataset):
    """Class k when a word of its ten is in the text."""

    def __init__(self, n):
        g = torch.Generator().manual_seed(SEED)
        self.words = torch.randint(40, 90, (n, 10), generator=g)
        self.labels = torch.randint(0, 4, (n,), generator=g)
        rows = torch.arange(n)
        for _ in range(2):
            places = torch.randint(0, 10, (n,), generator=g)
            self.words[rows, places] = self.labels * 10 + torch.randint(0, 10, (n,), generator=g)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"words": self.words[i], "labels": self.labels[i]}


class Classifier(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.embed = nn.Embedding(90, dim)
        self.encoder = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 4)

    def forward(self, words):
        hidden = self.embed(words).mean(dim=1)
        hidden = torch.relu(self.encoder(hidden))
        return self.head(hidden)


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        logits = model(inputs["words"])
        loss = F.cross_entropy(logits, labels, weight=torch.tensor([1.0, 1.0, 1.2, 0.8]))
        return (loss, {"logits": logits}) if return_outputs else loss


model = Classifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        output_dir=folder, num_train_epochs=6, per_device_train_batch_size=32, logging_steps=10, seed=SEED, max_grad_norm=2.0,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, remove_unused_columns=False,
    )
    trainer = WeightedTrainer(model=model, args=args, train_dataset=Texts(1024), optimizers=(optimizer, None))
    trainer.train()
log = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(f"score {float(log[0]):.4f} -> {float(log[-1]):.4f}")
