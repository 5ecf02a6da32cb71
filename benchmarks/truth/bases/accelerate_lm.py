"""A language model of characters with accelerate: a scheduler, clipping, an evaluation."""
import os

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

TEXT = "the quick brown fox jumps over the lazy dog and the dog sleeps while the fox runs away over the hill " * 40


class CharModel(nn.Module):
    def __init__(self, vocab, dim=32, hidden=64):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.rnn = nn.GRU(dim, hidden, batch_first=True)
        self.proj = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, ids):
        states, _ = self.rnn(self.embed(ids))
        x = torch.relu(self.proj(states))
        return self.head(x)


def loaders(length=24):
    letters = sorted(set(TEXT))
    ids = torch.tensor([letters.index(c) for c in TEXT])
    windows = ids.unfold(0, length + 1, 3)
    data = TensorDataset(windows[:, :-1], windows[:, 1:])
    return DataLoader(data, batch_size=48, shuffle=True), len(letters)


def evaluate(model, loader):
    model.eval()
    inputs, targets = next(iter(loader))
    with torch.no_grad():
        loss = F.cross_entropy(model(inputs).transpose(1, 2), targets)
    model.train()
    return loss.item()


def training_function(epochs=6, lr=4e-3):
    set_seed(int(os.environ.get("SEED", 0)))
    accelerator = Accelerator(cpu=True)
    loader, vocab = loaders()
    model = CharModel(vocab)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    curve = []
    for epoch in range(epochs):
        for inputs, targets in loader:
            logits = model(inputs)
            loss = F.cross_entropy(logits.transpose(1, 2), targets)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            curve.append(loss.item())
        scheduler.step()
        evaluate(model, loader)
    accelerator.print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-20:]) / 20:.4f}")


if __name__ == "__main__":
    training_function()
