"""Soft actor-critic for one step: reach the point that the state names. Three optimizers."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))


class SoftQNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 48)
        self.fc2 = nn.Linear(48, 48)
        self.fc3 = nn.Linear(48, 1)

    def forward(self, x, a):
        x = F.relu(self.fc1(torch.cat([x, a], 1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(2, 48)
        self.fc_mean = nn.Linear(48, 2)
        self.fc_logstd = nn.Linear(48, 2)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        return self.fc_mean(x), torch.tanh(self.fc_logstd(x)) * 2 - 2

    def get_action(self, x):
        mean, log_std = self(x)
        normal = torch.distributions.Normal(mean, log_std.exp())
        raw = normal.rsample()
        action = torch.tanh(raw)
        log_prob = normal.log_prob(raw) - torch.log(1 - action.pow(2) + 1e-6)
        return action, log_prob.sum(1, keepdim=True)


actor, qf1, qf2 = Actor(), SoftQNetwork(), SoftQNetwork()
q_optimizer = torch.optim.Adam(list(qf1.parameters()) + list(qf2.parameters()), lr=3e-3)
actor_optimizer = torch.optim.Adam(list(actor.parameters()), lr=2e-3)
log_alpha = torch.zeros(1, requires_grad=True)
a_optimizer = torch.optim.Adam([log_alpha], lr=5e-3)
target_entropy = -2.0


def reward_of(state, action):
    return -((action - state) ** 2).sum(1, keepdim=True)


misses = []
for global_step in range(300):
    state = torch.rand(64, 2) * 1.6 - 0.8
    with torch.no_grad():
        action, _ = actor.get_action(state)
        reward = reward_of(state, action)
    qf1_loss = F.mse_loss(qf1(state, action), reward)
    qf2_loss = F.mse_loss(qf2(state, action), reward)
    qf_loss = qf1_loss + qf2_loss
    q_optimizer.zero_grad()
    qf_loss.backward()
    q_optimizer.step()

    pi, log_pi = actor.get_action(state)
    min_qf_pi = torch.min(qf1(state, pi), qf2(state, pi))
    actor_loss = (log_alpha.exp().detach() * log_pi - min_qf_pi).mean()
    actor_optimizer.zero_grad()
    actor_loss.backward()
    actor_optimizer.step()

    alpha_loss = (-log_alpha.exp() * (log_pi.detach() + target_entropy)).mean()
    a_optimizer.zero_grad()
    alpha_loss.backward()
    a_optimizer.step()
    misses.append(-reward.mean().item())
print(f"score {sum(misses[:10]) / 10:.4f} -> {sum(misses[-10:]) / 10:.4f}")
