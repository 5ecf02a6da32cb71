"""A small BERT fine-tuned by the Trainer of Transformers."""
import os
import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

SEED = int(os.environ.get("SEED", 0))
set_seed(SEED)


class Reviews(Dataset):
    """Class 1 when a good word (5 to 9) is in the text, else 0."""

    def __init__(self, n):
        g = torch.Generator().manual_seed(SEED)
        self.input_ids = torch.randint(10, 40, (n, 12), generator=g)
        self.labels = torch.randint(0, 2, (n,), generator=g)
        for row, label in zip(self.input_ids, self.labels):
            if label == 1:
                row[torch.randperm(11, generator=g)[:2] + 1] = torch.randint(5, 10, (2,), generator=g)
        self.input_ids[:, 0] = 1

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": self.input_ids[i], "attention_mask": torch.ones(12, dtype=torch.long), "labels": self.labels[i]}


config = BertConfig(
    vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=16,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)
model = BertForSequenceClassification(config)
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        output_dir=folder, num_train_epochs=6, per_device_train_batch_size=32, learning_rate=3e-3, logging_steps=10, seed=SEED,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, lr_scheduler_type="linear", warmup_steps=10,
    )
    trainer = Trainer(model=model, args=args, train_dataset=Reviews(960))
    trainer.train()
log = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(f"score {float(log[0]):.4f} -> {float(log[-1]):.4f}")
