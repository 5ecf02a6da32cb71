"""Word vectors by skip-gram with negative sampling."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))
VOCAB, TOPICS, DIM = 60, 6, 16


class SkipGram(nn.Module):
    def __init__(self):
        super().__init__()
        self.center = nn.Embedding(VOCAB, DIM)
        self.context = nn.Embedding(VOCAB, DIM)
        nn.init.normal_(self.center.weight, std=0.2)
        nn.init.normal_(self.context.weight, std=0.2)

    def forward(self, center, positive, negatives):
        c = self.center(center)
        pos = (c * self.context(positive)).sum(1)
        neg = torch.bmm(self.context(negatives), c.unsqueeze(2)).squeeze(2)
        return -(F.logsigmoid(pos) + F.logsigmoid(-neg).sum(1)).mean()


def pairs(n=128):
    center = torch.randint(VOCAB, (n,))
    positive = (center // 10) * 10 + torch.randint(10, (n,))
    return center, positive, torch.randint(VOCAB, (n, 4))


model = SkipGram()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
curve = []
for _ in range(300):
    optimizer.zero_grad()
    loss = model(*pairs())
    loss.backward()
    optimizer.step()
    curve.append(loss.item())
print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-20:]) / 20:.4f}")
