"""A closure for an optimizer that asks for the loss several times in a step."""
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))
x = torch.linspace(-2, 2, 200).unsqueeze(1)
y = torch.sin(2 * x) + 0.3 * x

net = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
loss_fn = nn.MSELoss()
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=8, history_size=10)
losses = []
for step in range(40):

    def closure():
        optimizer.zero_grad()
        prediction = net(x)
        loss = loss_fn(prediction, y)
        loss.backward()
        return loss

    losses.append(optimizer.step(closure).item())
print(f"score {losses[0]:.4f} -> {losses[-1]:.4f}")
