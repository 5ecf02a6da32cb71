"""Stable-Baselines3's PPO on CartPole."""

from __future__ import annotations

from stable_baselines3 import PPO

model = PPO("MlpPolicy", "CartPole-v1", n_steps=256, n_epochs=6, seed=1, device="cpu")
model.learn(1024)
model.policy.save("policy.pt")
