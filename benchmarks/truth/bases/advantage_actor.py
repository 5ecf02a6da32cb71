"""Actor and critic by single transitions: steer a point to the middle, with two optimizers."""
import os

import torch
import torch.nn as nn
from torch.distributions import Normal

torch.manual_seed(int(os.environ.get("SEED", 0)))
GAMMA = 0.8


def move(state, action):
    following = (state + 0.3 * action.clamp(-1, 1)).clamp(-1, 1)
    return following, -following.pow(2).sum(1)


class Learner:
    def __init__(self):
        self.actor = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
        self.optimizer = torch.optim.Adam(
            [{"params": self.actor.parameters(), "lr": 3e-3}, {"params": self.critic.parameters(), "lr": 1e-2}]
        )

    def learn(self, state):
        dist = Normal(self.actor(state), 0.4)
        action = dist.sample()
        following, reward = move(state, action)
        value = self.critic(state).squeeze(1)
        with torch.no_grad():
            target = reward + GAMMA * self.critic(following).squeeze(1)
        delta = target - value
        actor_loss = -(dist.log_prob(action).sum(1) * delta.detach()).mean()
        critic_loss = delta.pow(2).mean()
        loss = actor_loss + critic_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return -reward.mean().item(), following

    def train(self, num_steps):
        costs, state = [], torch.rand(128, 2) * 2 - 1
        for step in range(num_steps):
            cost, state = self.learn(state)
            costs.append(cost)
            if step % 5 == 4:
                state = torch.rand(128, 2) * 2 - 1
        return costs


costs = Learner().train(400)
print(f"score {sum(costs[:20]) / 20:.4f} -> {sum(costs[-20:]) / 20:.4f}")
