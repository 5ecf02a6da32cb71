"""Deep Q-learning on a corridor, with a replay buffer and a target network."""
import os
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = int(os.environ.get("SEED", 0))
torch.manual_seed(SEED)
random.seed(SEED)
LENGTH, GAMMA = 8, 0.9


class DQN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(LENGTH, 48)
        self.layer2 = nn.Linear(48, 48)
        self.layer3 = nn.Linear(48, 2)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


policy_net = DQN()
target_net = DQN()
target_net.load_state_dict(policy_net.state_dict())
optimizer = torch.optim.AdamW(policy_net.parameters(), lr=1e-3, amsgrad=True)
memory = deque(maxlen=2000)
criterion = nn.SmoothL1Loss()


def encode(position):
    return F.one_hot(torch.tensor(position), LENGTH).float()


def optimize_model():
    batch = random.sample(memory, 64)
    states = torch.stack([encode(b[0]) for b in batch])
    actions = torch.tensor([[b[1]] for b in batch])
    rewards = torch.tensor([b[2] for b in batch])
    next_states = torch.stack([encode(b[3]) for b in batch])
    done = torch.tensor([float(b[4]) for b in batch])
    q = policy_net(states).gather(1, actions).squeeze(1)
    with torch.no_grad():
        expected = rewards + GAMMA * (1 - done) * target_net(next_states).max(1).values
    loss = criterion(q, expected)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    with torch.no_grad():
        for target, source in zip(target_net.parameters(), policy_net.parameters()):
            target.mul_(0.95).add_(source, alpha=0.05)


def mistakes():
    with torch.no_grad():
        return (policy_net(torch.eye(LENGTH)[: LENGTH - 1]).argmax(1) != 1).float().mean().item()


position, before = 0, mistakes()
for step in range(500):
    action = random.randrange(2) if random.random() < 0.4 else int(policy_net(encode(position)).argmax())
    following = min(max(position + (1 if action == 1 else -1), 0), LENGTH - 1)
    done = following == LENGTH - 1
    memory.append((position, action, 1.0 if done else -0.05, following, done))
    position = random.randrange(LENGTH - 1) if done or step % 20 == 0 else following
    if len(memory) >= 100:
        optimize_model()
print(f"score {max(before, 0.5):.4f} -> {mistakes():.4f}")
