"""Advantage actor-critic on a walk along a line: an update for each short rollout."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical

torch.manual_seed(int(os.environ.get("SEED", 0)))
WALKERS, STEPS, GAMMA = 32, 8, 0.9


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 48), nn.Tanh())
        self.policy = nn.Linear(48, 3)
        self.value = nn.Linear(48, 1)

    def forward(self, x):
        h = self.body(x)
        return Categorical(logits=self.policy(h)), self.value(h).squeeze(-1)


def observe(position, goal):
    return torch.stack([position, goal], 1) / 5


model = ActorCritic()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
scores = []
for episode in range(150):
    position = torch.randint(-5, 6, (WALKERS,)).float()
    goal = torch.randint(-5, 6, (WALKERS,)).float()
    log_probs, values, rewards, entropy = [], [], [], 0.0
    for _ in range(STEPS):
        dist, value = model(observe(position, goal))
        action = dist.sample()
        position = (position + action.float() - 1).clamp(-6, 6)
        log_probs.append(dist.log_prob(action))
        values.append(value)
        rewards.append(-(position - goal).abs() / 5)
        entropy = entropy + dist.entropy().mean() / STEPS
    with torch.no_grad():
        running = model(observe(position, goal))[1]
    returns = []
    for reward in reversed(rewards):
        running = reward + GAMMA * running
        returns.insert(0, running)
    returns, values, log_probs = torch.stack(returns), torch.stack(values), torch.stack(log_probs)
    advantages = returns - values
    policy_loss = -(log_probs * advantages.detach()).mean()
    value_loss = F.mse_loss(values, returns)
    loss = policy_loss + 0.5 * value_loss - 0.01 * entropy
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scores.append(-torch.stack(rewards).mean().item())
print(f"score {sum(scores[:5]) / 5:.4f} -> {sum(scores[-5:]) / 5:.4f}")
