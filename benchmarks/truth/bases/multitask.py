"""A shared trunk, two tasks, two backward calls for each step."""
import os

import torch
import torch.nn as nn

torch.manual_seed(int(os.environ.get("SEED", 0)))


class TwoHeads(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head_class = nn.Linear(width, 3)
        self.head_value = nn.Linear(width, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.head_class(h), self.head_value(h).squeeze(1)


source = torch.randn(12, 3)
inputs = torch.randn(2048, 12)
kinds = (inputs @ source).argmax(1)
amounts = torch.tanh((inputs @ source)[:, 0])
net = TwoHeads()
cross_entropy, mse = nn.CrossEntropyLoss(), nn.MSELoss()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
totals = []
for epoch in range(8):
    for rows in torch.randperm(len(inputs)).split(64):
        logits, value = net(inputs[rows])
        loss_class = cross_entropy(logits, kinds[rows])
        loss_value = mse(value, amounts[rows])
        optimizer.zero_grad()
        loss_class.backward(retain_graph=True)
        loss_value.backward()
        optimizer.step()
        totals.append(loss_class.item() + loss_value.item())
print(f"score {sum(totals[:5]) / 5:.4f} -> {sum(totals[-20:]) / 20:.4f}")
