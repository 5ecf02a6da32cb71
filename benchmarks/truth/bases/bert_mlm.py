"""Masked language modelling with an encoder of torch.nn."""
import os

import torch
import torch.nn as nn

MASK, VOCAB, LENGTH = 1, 20, 16


class MaskedLM(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, dim)
        self.positions = nn.Embedding(LENGTH, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.lm_head = nn.Linear(dim, VOCAB)

    def forward(self, input_ids):
        hidden = self.tokens(input_ids) + self.positions.weight[: input_ids.size(1)]
        hidden = self.encoder(hidden)
        return self.lm_head(hidden)


def sample(n):
    start = torch.randint(0, 18, (n, 1))
    return (start + torch.arange(LENGTH)) % 18 + 2


def mask_tokens(input_ids, p=0.2):
    labels = input_ids.clone()
    masked = torch.rand(input_ids.shape) < p
    masked[:, 0] |= ~masked.any(1)
    labels[~masked] = -100
    inputs = input_ids.clone()
    inputs[masked] = MASK
    return inputs, labels


def train(steps=220):
    model = MaskedLM()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss(ignore_index=-100)
    losses = []
    for step in range(steps):
        inputs, labels = mask_tokens(sample(32))
        logits = model(inputs)
        loss = criterion(logits.view(-1, VOCAB), labels.view(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


torch.manual_seed(int(os.environ.get("SEED", 0)))
losses = train()
print(f"score {sum(losses[:10]) / 10:.4f} -> {sum(losses[-10:]) / 10:.4f}")
