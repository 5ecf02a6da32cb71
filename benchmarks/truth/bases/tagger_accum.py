"""Part-of-speech tags for sentences of all lengths, in batches of like ones: four micro-batches a step, weighted by their tokens."""
import os

import torch
import torch.nn as nn

IGNORE = -100
torch.manual_seed(int(os.environ.get("SEED", 0)))


class Tagger(nn.Module):
    def __init__(self, words=40, dim=32, tags=5):
        super().__init__()
        self.word_embeddings = nn.Embedding(words, dim)
        self.lstm = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(2 * dim, tags)

    def forward(self, sentences):
        out, _ = self.lstm(self.word_embeddings(sentences))
        return self.hidden2tag(out)


def sentences(n=6):
    longest = int(torch.randint(4, 30, ()))  # batches are packed by length
    lengths = torch.randint(longest // 2, longest, (n,))
    words = torch.randint(0, 40, (n, int(lengths.max())))
    tags = (words + words.roll(1, 1)) % 5
    tags[torch.arange(words.size(1))[None] >= lengths[:, None]] = IGNORE
    return words, tags


model = Tagger()
criterion = nn.CrossEntropyLoss(ignore_index=IGNORE, reduction="sum")
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
curve = []
for update in range(130):
    optimizer.zero_grad()
    micro_batches = [sentences() for _ in range(4)]
    tokens = sum((tags != IGNORE).sum() for _, tags in micro_batches)
    total = 0.0
    for words, tags in micro_batches:
        scores = model(words)
        loss = criterion(scores.view(-1, 5), tags.view(-1)) / tokens
        loss.backward()
        total += loss.item()
    optimizer.step()
    curve.append(total)
print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-10:]) / 10:.4f}")
