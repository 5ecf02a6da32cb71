"""PPO, in the manner of CleanRL, on a walk along a line towards a goal."""
import os

import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(int(os.environ.get("SEED", 0)))
num_envs, num_steps, gamma, clip_coef, ent_coef, vf_coef = 16, 16, 0.95, 0.2, 0.01, 0.5


class Line:
    def __init__(self, n):
        self.n = n
        self.reset()

    def reset(self):
        self.position = torch.randint(-5, 6, (self.n,)).float()
        self.goal = torch.randint(-5, 6, (self.n,)).float()
        return self.observe()

    def observe(self):
        return torch.stack([self.position, self.goal], 1) / 5

    def step(self, action):
        self.position = (self.position + action.float() - 1).clamp(-6, 6)
        return self.observe(), -(self.position - self.goal).abs() / 5


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
        self.actor = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))

    def get_value(self, x):
        return self.critic(x).squeeze(-1)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.get_value(x)


agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3, eps=1e-5)
envs = Line(num_envs)
scores = []
for update in range(30):
    obs = envs.reset()
    all_obs, actions, logprobs, rewards, values = [], [], [], [], []
    for _ in range(num_steps):
        with torch.no_grad():
            action, logprob, _, value = agent.get_action_and_value(obs)
        next_obs, reward = envs.step(action)
        all_obs.append(obs), actions.append(action), logprobs.append(logprob), rewards.append(reward), values.append(value)
        obs = next_obs
    with torch.no_grad():
        running = agent.get_value(obs)
    returns = []
    for reward in reversed(rewards):
        running = reward + gamma * running
        returns.insert(0, running)
    b_obs, b_actions, b_logprobs = torch.cat(all_obs), torch.cat(actions), torch.cat(logprobs)
    b_returns, b_values = torch.cat(returns), torch.cat(values)
    b_advantages = b_returns - b_values
    scores.append(-torch.stack(rewards).mean().item())

    for epoch in range(3):
        for mb in torch.randperm(len(b_obs)).split(64):
            _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb], b_actions[mb])
            ratio = (newlogprob - b_logprobs[mb]).exp()
            adv = b_advantages[mb]
            adv = (adv - adv.mean()) / (adv.std() + 1e-8)
            pg_loss = torch.max(-adv * ratio, -adv * ratio.clamp(1 - clip_coef, 1 + clip_coef)).mean()
            v_loss = 0.5 * ((newvalue - b_returns[mb]) ** 2).mean()
            loss = pg_loss - ent_coef * entropy.mean() + v_loss * vf_coef
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
print(f"score {sum(scores[:3]) / 3:.4f} -> {sum(scores[-3:]) / 3:.4f}")
