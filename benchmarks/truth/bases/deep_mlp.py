"""Ten layers, He initialisation, in a class of its own."""
import os

import torch
from sklearn.datasets import load_digits
from torch import nn


class DeepNet(nn.Module):
    def __init__(self, width=48, depth=8):
        super().__init__()
        layers = [nn.Linear(64, width), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, 10)
        for module in self.body:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.head(self.body(x))


def train(model, x, y, *, steps, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    for step in range(steps):
        rows = torch.randint(len(x), (64,))
        loss = loss_fn(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


torch.manual_seed(int(os.environ.get("SEED", 0)))
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
x = x - x.mean(0)
y = torch.tensor(digits.target)
losses = list(train(DeepNet(), x, y, steps=250, lr=0.02))
print(f"score {sum(losses[:5]) / 5:.4f} -> {sum(losses[-20:]) / 20:.4f}")
