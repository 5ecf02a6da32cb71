"""Tags of synthetic documents: several can be right at once."""
import os

import torch
import torch.nn as nn


class Tagger(nn.Module):
    def __init__(self, words=200, dim=32, tags=6):
        super().__init__()
        self.embedding = nn.EmbeddingBag(words, dim, mode="mean")
        self.fc = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, tags)

    def forward(self, tokens):
        h = torch.relu(self.fc(self.embedding(tokens)))
        return self.classifier(h)


def make_data(n):
    tags = (torch.rand(n, 6) < 0.3).float()
    tokens = torch.randint(60, 200, (n, 20))
    for i in range(6):
        rows = tags[:, i].bool()
        tokens[rows, 3 * i] = torch.randint(10 * i, 10 * i + 10, (int(rows.sum()),))
        tokens[rows, 3 * i + 1] = torch.randint(10 * i, 10 * i + 10, (int(rows.sum()),))
    return tokens, tags


def fit(model, tokens, tags, epochs=12, lr=1e-2):
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    lr_scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    history = []
    for epoch in range(epochs):
        total, batches = 0.0, 0
        for idx in torch.randperm(len(tokens)).split(64):
            logits = model(tokens[idx])
            loss = criterion(logits, tags[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, batches = total + loss.item(), batches + 1
        lr_scheduler.step()
        history.append(total / batches)
    return history


torch.manual_seed(int(os.environ.get("SEED", 0)))
history = fit(Tagger(), *make_data(1536))
print(f"score {history[0]:.4f} -> {history[-1]:.4f}")
