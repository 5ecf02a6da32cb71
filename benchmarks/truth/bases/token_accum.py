"""Sequences of different lengths; the loss of a window is the sum over its tokens, divided by their number."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))
VOCAB, PAD = 12, -100


class LM(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.head = nn.Linear(dim, VOCAB)

    def forward(self, ids):
        return self.head(self.gru(self.emb(ids))[0])


def micro_batch(n=8):
    length = int(torch.randint(4, 24, ()))
    start, stride = torch.randint(0, VOCAB, (n, 1)), torch.randint(1, 4, (n, 1))
    ids = (start + stride * torch.arange(length + 1)) % VOCAB
    labels = ids[:, 1:].clone()
    labels[torch.rand(labels.shape) < 0.1] = PAD
    return ids[:, :-1], labels


model = LM()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
losses = []
for step in range(120):
    window = [micro_batch() for _ in range(3)]
    num_tokens = sum(int((labels != PAD).sum()) for _, labels in window)
    optimizer.zero_grad()
    total = 0.0
    for ids, labels in window:
        logits = model(ids)
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), labels.reshape(-1), ignore_index=PAD, reduction="sum") / num_tokens
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimizer.step()
    losses.append(total)
print(f"score {sum(losses[:5]) / 5:.4f} -> {sum(losses[-10:]) / 10:.4f}")
