"""An encoder and a decoder, each with its own optimizer, learn to reverse short sequences."""
import os

import torch
import torch.nn as nn
from torch import optim

SOS = 0
VOCAB = 9
torch.manual_seed(int(os.environ.get("SEED", 0)))


class Encoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)

    def forward(self, source):
        return self.gru(self.embedding(source))[1]


class Decoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, VOCAB)

    def forward(self, inputs, state):
        output, state = self.gru(self.embedding(inputs), state)
        return self.out(output), state


def train_step(source, target, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion):
    encoder_optimizer.zero_grad()
    decoder_optimizer.zero_grad()
    state = encoder(source)
    shifted = torch.cat([torch.full_like(target[:, :1], SOS), target[:, :-1]], dim=1)
    logits, _ = decoder(shifted, state)
    loss = criterion(logits.reshape(-1, VOCAB), target.reshape(-1))
    loss.backward()
    encoder_optimizer.step()
    decoder_optimizer.step()
    return loss.item()


encoder, decoder = Encoder(48), Decoder(48)
encoder_optimizer = optim.Adam(encoder.parameters(), lr=5e-3)
decoder_optimizer = optim.Adam(decoder.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss()
losses = []
for iteration in range(250):
    source = torch.randint(1, VOCAB, (32, 5))
    target = source.flip(1)
    losses.append(train_step(source, target, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion))
print(f"score {sum(losses[:10]) / 10:.4f} -> {sum(losses[-10:]) / 10:.4f}")
