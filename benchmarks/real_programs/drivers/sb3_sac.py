"""Stable-Baselines3's SAC on Pendulum: actor, critic and temperature, an optimizer each."""

from __future__ import annotations

from stable_baselines3 import SAC

model = SAC(
    "MlpPolicy",
    "Pendulum-v1",
    learning_starts=100,
    batch_size=32,
    seed=1,
    device="cpu",
    policy_kwargs={"net_arch": [32, 32]},
)
model.learn(260)
model.policy.save("policy.pt")
