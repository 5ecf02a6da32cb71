"""Digits again, in functions, with a validation pass after each epoch."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 10)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = self.drop(x)
        x = F.relu(self.fc2(x))
        return F.log_softmax(self.out(x), dim=1)


def make_loaders(batch_size):
    data, target = load_digits(return_X_y=True)
    data = torch.from_numpy((data / 16).astype(np.float32))
    target = torch.from_numpy(target)
    train = TensorDataset(data[:1408], target[:1408])
    test = TensorDataset(data[1408:1792], target[1408:1792])
    return DataLoader(train, batch_size, shuffle=True), DataLoader(test, 128)


def train_one_epoch(model, loader, optimizer):
    model.train()
    total = 0.0
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    losses = []
    for data, target in loader:
        losses.append(F.nll_loss(model(data), target).item())
    return sum(losses) / len(losses)


def main():
    torch.manual_seed(int(os.environ.get("SEED", 0)))
    train_loader, test_loader = make_loaders(64)
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for epoch in range(10):
        losses.append(train_one_epoch(model, train_loader, optimizer))
        evaluate(model, test_loader)
    print(f"score {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
