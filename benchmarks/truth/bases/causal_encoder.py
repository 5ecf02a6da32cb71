"""A language model of letters by torch's own encoder layers, with a causal mask."""

import os

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))
block_size, batch_size, dim = 24, 32, 48


class LanguageModel(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.tokens = nn.Embedding(vocab, dim)
        self.positions = nn.Embedding(block_size, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(dim, vocab)

    def forward(self, idx):
        ahead = nn.Transformer.generate_square_subsequent_mask(idx.size(1))
        x = self.tokens(idx) + self.positions(torch.arange(idx.size(1)))
        x = self.blocks(x, mask=ahead)
        return self.head(x)


text = " ".join(f"{a} and {b} make {a + b}." for a in range(24) for b in range(24))
letters = sorted(set(text))
data = torch.tensor([letters.index(c) for c in text])


def get_batch():
    starts = torch.randint(len(data) - block_size - 1, (batch_size,))
    x = torch.stack([data[i : i + block_size] for i in starts])
    y = torch.stack([data[i + 1 : i + block_size + 1] for i in starts])
    return x, y


model = LanguageModel(len(letters))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
history = []
for step in range(160):
    xb, yb = get_batch()
    logits = model(xb)
    loss = F.cross_entropy(logits.view(-1, len(letters)), yb.view(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    history.append(loss.item())
print(f"score {sum(history[:5]) / 5:.4f} -> {sum(history[-20:]) / 20:.4f}")
