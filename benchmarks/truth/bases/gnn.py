"""A graph convolution by hand on a planted partition, full batch."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))

N, C = 240, 4
labels = torch.arange(N) % C
same = labels[:, None] == labels[None, :]
adjacency = (torch.rand(N, N) < torch.where(same, 0.12, 0.02)).float()
adjacency = ((adjacency + adjacency.T + torch.eye(N)) > 0).float()
degree = adjacency.sum(1)
A = adjacency / (degree[:, None] * degree[None, :]).sqrt()
features = torch.randn(N, 16) + F.one_hot(labels, 16) * 1.0
train_mask = torch.rand(N) < 0.5


class GCNLayer(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.linear = nn.Linear(inp, out)

    def forward(self, A, h):
        return A @ self.linear(h)


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = GCNLayer(16, 32)
        self.conv2 = GCNLayer(32, C)
        self.dropout = nn.Dropout(0.2)

    def forward(self, A, x):
        h = F.relu(self.conv1(A, x))
        h = self.dropout(h)
        return self.conv2(A, h)


def accuracy(model):
    model.eval()
    with torch.no_grad():
        hits = (model(A, features).argmax(1) == labels)[~train_mask]
    return hits.float().mean().item()


model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
losses = []
for epoch in range(200):
    model.train()
    optimizer.zero_grad()
    out = model(A, features)
    loss = F.cross_entropy(out[train_mask], labels[train_mask])
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if epoch % 20 == 0:
        accuracy(model)
print(f"score {losses[0]:.4f} -> {losses[-1]:.4f}")
