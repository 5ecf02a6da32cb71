"""Q-learning by one network: push a cart along a line to its middle and stop there."""
import os

import torch
import torch.nn as nn

torch.manual_seed(int(os.environ.get("SEED", 0)))
gamma, batch_size = 0.9, 128


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, state):
        return self.net(state)


def push(state, action):
    speed = (state[:, 1] + 0.1 * (action.float() - 1)).clamp(-0.5, 0.5)
    place = (state[:, 0] + speed).clamp(-1.5, 1.5)
    return torch.stack([place, speed], 1), -place.abs() - 0.1 * speed.abs()


def play(q_network):
    state, total = torch.linspace(-1, 1, 41)[:, None] * torch.tensor([1.0, 0.0]), 0.0
    with torch.no_grad():
        for _ in range(20):
            state, reward = push(state, q_network(state).argmax(1))
            total -= reward.mean().item() / 20
    return total


q_network = QNetwork()
optimizer = torch.optim.Adam(q_network.parameters(), lr=2e-3)
loss_fn = nn.MSELoss()
before = play(q_network)
for iteration in range(500):
    state = torch.rand(batch_size, 2) * torch.tensor([3.0, 1.0]) - torch.tensor([1.5, 0.5])
    action = torch.randint(0, 3, (batch_size,))
    next_state, reward = push(state, action)
    target_q = reward + gamma * q_network(next_state).max(1).values
    current_q = q_network(state).gather(1, action.unsqueeze(1)).squeeze(1)
    loss = loss_fn(current_q, target_q.detach())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"score {before:.4f} -> {play(q_network):.4f}")
