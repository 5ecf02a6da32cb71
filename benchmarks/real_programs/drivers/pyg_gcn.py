"""The graph convolutional network of PyTorch Geometric's introduction, on a made-up graph."""

from __future__ import annotations

from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.seed import seed_everything

import torch
import torch.nn.functional as F
from torch import Tensor


class GCN(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = GCNConv(20, 16)
        self.conv2 = GCNConv(16, 4)

    def forward(self, data: Data) -> Tensor:
        x = self.conv1(data.x, data.edge_index).relu()
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.conv2(x, data.edge_index), dim=1)


seed_everything(1)
x = torch.randn(200, 20)
data = Data(x=x, edge_index=torch.randint(0, 200, (2, 800)), y=x[:, :4].argmax(1))
model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
model.train()
for _ in range(100):
    optimizer.zero_grad()
    loss = F.nll_loss(model(data)[:140], data.y[:140])
    loss.backward()
    optimizer.step()
print(loss.item().hex())
