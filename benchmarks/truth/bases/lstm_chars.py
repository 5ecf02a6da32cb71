"""A character language model with an LSTM, after the word language model of the PyTorch examples."""
import os
import random

import torch
import torch.nn as nn

seed = int(os.environ.get("SEED", 0))
torch.manual_seed(seed)
rng = random.Random(seed)

words = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "sings"]
text = " ".join(rng.choice(words[:3]) + " " + rng.choice(words[3:6]) + " " + rng.choice(words[6:]) + "." for _ in range(1500))
vocab = sorted(set(text))
ids = torch.tensor([vocab.index(c) for c in text])


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nhid):
        super().__init__()
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid, num_layers=1)
        self.decoder = nn.Linear(nhid, ntoken)

    def forward(self, input, hidden):
        emb = self.encoder(input)
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(output)
        return decoded.view(-1, decoded.size(-1)), hidden


def batchify(data, bsz):
    nbatch = data.size(0) // bsz
    return data[: nbatch * bsz].view(bsz, -1).t().contiguous()


def repackage_hidden(h):
    return tuple(v.detach() for v in h)


bptt = 20
train_data = batchify(ids, 16)
model = RNNModel(len(vocab), 24, 64)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


def train():
    model.train()
    total_loss, count = 0.0, 0
    hidden = (torch.zeros(1, 16, 64), torch.zeros(1, 16, 64))
    for i in range(0, train_data.size(0) - 1 - bptt, bptt):
        data, targets = train_data[i : i + bptt], train_data[i + 1 : i + 1 + bptt].reshape(-1)
        hidden = repackage_hidden(hidden)
        model.zero_grad()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total_loss += loss.item()
        count += 1
    return total_loss / count


history = [train() for epoch in range(3)]
print(f"score {history[0]:.4f} -> {history[-1]:.4f}")
