"""Training programs that draw samples: where `sample()` cuts off what should be trained, and where
it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import (
    Beta,
    Categorical,
    Independent,
    Normal,
    TransformedDistribution,
    kl_divergence,
)
from torch.distributions.transforms import TanhTransform

from tests.rules.programs import WIDTH, Listen, Program, adam, batch

LATENT, STEPS = 4, 12


def gaussian(h: Tensor) -> Normal:
    mean, raw = h.chunk(2, -1)
    return Normal(mean, F.softplus(raw) + 0.1)


def net(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 24), nn.Tanh(), nn.Linear(24, outputs))


class Nets(nn.Module):
    """An encoder or actor, a decoder or critic, and a second one."""

    def __init__(self, inputs: int = LATENT) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = net(WIDTH, 2 * LATENT)
        self.decoder = net(inputs, WIDTH)
        self.critic = net(WIDTH + LATENT, 1)


def at_once(
    loss_of: Callable[[Nets, Tensor, int], Tensor], without: tuple[str, ...] = ("critic",)
) -> Program:
    """One optimizer over all networks, `without` those that it does not use."""

    def program(listen: Listen) -> None:
        nets = Nets()
        for name in without:
            delattr(nets, name)
        optimizer = adam(nets)
        with listen(nets, optimizer):
            for step in range(STEPS):
                x, _ = batch(step)
                optimizer.zero_grad()
                loss_of(nets, x, step).backward()
                optimizer.step()

    return program


def vae(draw: str) -> Callable[[Nets, Tensor, int], Tensor]:
    def loss_of(nets: Nets, x: Tensor, _: int) -> Tensor:
        q = gaussian(nets.encoder(x))
        z = getattr(q, draw)()
        return F.mse_loss(nets.decoder(z), x) + 0.1 * kl_divergence(q, Normal(0.0, 1.0)).mean()

    return loss_of


def vae_by_hand(nets: Nets, x: Tensor, _: int) -> Tensor:
    mean, logvar = nets.encoder(x).chunk(2, -1)
    z = Independent(Normal(mean, (0.5 * logvar).exp()), 1).sample()
    kl = -0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).sum(1).mean()
    return F.mse_loss(nets.decoder(z), x) + 0.1 * kl


def density_ratio(nets: Nets, x: Tensor, _: int) -> Tensor:
    """The decoder learns from `rsample()`, a discriminator from `sample()`, in one loss."""
    q = gaussian(nets.encoder(x))
    rec = F.mse_loss(nets.decoder(q.rsample()), x)
    score = nets.critic(torch.cat([x, q.sample()], 1))
    return rec + kl_divergence(q, Normal(0.0, 1.0)).mean() + F.softplus(-score).mean()


def world_model(nets: Nets, x: Tensor, _: int) -> Tensor:
    """What comes next is learned by its likelihood, the reward from a sample of it."""
    q = gaussian(nets.encoder(x))
    reward = nets.critic(torch.cat([x, q.sample()], 1)).squeeze(1)
    return F.mse_loss(reward, x[:, 0]) - q.log_prob(x[:, :LATENT]).mean()


def score_function(nets: Nets, x: Tensor, _: int) -> Tensor:
    q = gaussian(nets.encoder(x))
    z = q.sample()
    cost = (nets.decoder(z) - x).pow(2).mean(1)
    return cost.mean() + (q.log_prob(z).sum(1) * cost.detach()).mean() - 0.1 * q.entropy().mean()


def recurrent(nets: Nets, x: Tensor, _: int) -> Tensor:
    """What was drawn is the next input of the same network."""
    given = x
    loss = torch.zeros(())
    for _ in range(3):
        q = gaussian(nets.encoder(given))
        given = torch.cat([q.sample(), x[:, LATENT:]], 1)
        loss = loss + 0.1 * kl_divergence(q, Normal(0.0, 1.0)).mean()
    return loss + F.mse_loss(gaussian(nets.encoder(given)).mean, x[:, :LATENT])


def beta_policy(nets: Nets, x: Tensor, _: int) -> Tensor:
    one, other = (F.softplus(nets.encoder(x)) + 1).chunk(2, 1)
    policy = Beta(one, other)
    action = policy.sample()
    value = nets.critic(torch.cat([x, action], 1)).squeeze(1)
    reward = -(action - 0.5).pow(2).sum(1)
    return F.mse_loss(value, reward) - (policy.log_prob(action).sum(1) * reward).mean()


def categorical_policy(nets: Nets, x: Tensor, _: int) -> Tensor:
    policy = Categorical(logits=nets.encoder(x))
    action = policy.sample()
    one_hot = F.one_hot(action, 2 * LATENT).float()[:, :LATENT]
    value = nets.critic(torch.cat([x, one_hot], 1)).squeeze(1)
    reward = (action == 1).float()
    return F.mse_loss(value, reward) - (policy.log_prob(action) * (reward - 0.5)).mean()


def actor_critic(actor_loss: Callable[[Nets, Tensor], Tensor], *, jointly: bool = False) -> Program:
    """An optimizer each for the actor and the critic, which learns by its own loss, or by the same
    one where they step `jointly`.
    """

    def program(listen: Listen) -> None:
        nets = Nets()
        del nets.decoder
        actors, critics = adam(nets.encoder), adam(nets.critic)
        with listen(nets, actors, critics):
            for step in range(STEPS):
                x, _ = batch(step)
                if not jointly:
                    action = torch.rand(
                        len(x), LATENT, generator=torch.Generator().manual_seed(step)
                    )
                    value = nets.critic(torch.cat([x, action], 1))
                    critics.zero_grad()
                    F.mse_loss(value, action.sum(1, keepdim=True)).backward()
                    critics.step()
                actors.zero_grad()
                if jointly:
                    critics.zero_grad()
                actor_loss(nets, x).backward()
                actors.step()
                if jointly:
                    critics.step()

    return program


def squashed(nets: Nets, x: Tensor, draw: str) -> Tensor:
    """The loss of SAC."""
    policy = gaussian(nets.encoder(x))
    u = getattr(policy, draw)()
    action = torch.tanh(u)
    log_prob = policy.log_prob(u) - torch.log(1 - action.pow(2) + 1e-6)
    return (0.1 * log_prob.sum(1) - nets.critic(torch.cat([x, action], 1)).squeeze(1)).mean()


def transformed(nets: Nets, x: Tensor) -> Tensor:
    policy: Any = TransformedDistribution(gaussian(nets.encoder(x)), [TanhTransform(cache_size=1)])
    action = policy.sample()
    value = nets.critic(torch.cat([x, action], 1)).squeeze(1)
    return (0.1 * policy.log_prob(action).sum(1) - value).mean()


def with_baseline(nets: Nets, x: Tensor) -> Tensor:
    """A policy gradient with Q(s, a), and the loss of Q."""
    policy = gaussian(nets.encoder(x))
    action = policy.sample()
    value = nets.critic(torch.cat([x, action], 1)).squeeze(1)
    reward = -action.pow(2).sum(1)
    gain = -(policy.log_prob(action).sum(1) * value.detach()).mean()
    return gain + F.mse_loss(value, reward)


def frozen(loss_of: Callable[[Nets, Tensor], Tensor]) -> Program:
    """The critic is frozen while the loss of the actor is computed."""

    def actor_loss(nets: Nets, x: Tensor) -> Tensor:
        nets.critic.requires_grad_(False)
        loss = loss_of(nets, x)
        nets.critic.requires_grad_(True)
        return loss

    return actor_critic(actor_loss)


def one_distribution(nets: Nets, x: Tensor) -> Tensor:
    """The actions are one joint draw, the temperature is a tensor, the loss is turned round."""
    mean, raw = nets.encoder(x).chunk(2, 1)
    policy = Independent(Normal(mean, raw.clamp(-4, 1).exp()), 1)
    action = policy.sample()
    alpha = torch.tensor([0.2]).exp()
    value = nets.critic(torch.cat([x, action], 1)).squeeze(1)
    return -(value - alpha * policy.log_prob(action)).mean()


def of_constant_scale(nets: Nets, x: Tensor) -> Tensor:
    policy = Normal(nets.encoder(x)[:, :LATENT], 0.3)
    action = policy.sample()
    with torch.no_grad():
        value = nets.critic(torch.cat([x, action], 1))
    return 0.1 * policy.log_prob(action).sum(1).mean() - value.mean()


def drawn_divergence(nets: Nets, x: Tensor, _: int) -> Tensor:
    """A variational autoencoder whose divergence is that of the sample, too."""
    q = gaussian(nets.encoder(x))
    z = q.sample()
    kl = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1)
    return F.mse_loss(nets.decoder(z), x) + 0.1 * kl.mean()


def joint_return(nets: Nets, x: Tensor) -> Tensor:
    """All actions together get one reward, which is the same for a while."""
    policy = gaussian(nets.encoder(x))
    return policy.log_prob(policy.sample()).sum() * 0.02


def returns_to_go(nets: Nets, x: Tensor) -> Tensor:
    """A policy gradient of a rollout that costs the same at each step, of many places at once."""
    loss = torch.zeros(())
    for cost in (3.0, 2.0, 1.0):
        policy = gaussian(nets.encoder(x))
        loss = loss + policy.log_prob(policy.sample()).mean() * cost
    return loss


def elite(nets: Nets, x: Tensor) -> Tensor:
    """The cross-entropy method: what was good is made likely, and here what was bad unlikely."""
    policy = gaussian(nets.encoder(x))
    action = policy.sample()
    worst = action.pow(2).sum(1) > 3.0
    return policy.log_prob(action).sum(1)[worst].mean()


def with_a_drawn_entropy(nets: Nets, x: Tensor) -> Tensor:
    policy = gaussian(nets.encoder(x))
    action = policy.sample()
    log_prob, worth = policy.log_prob(action).sum(1), -action.pow(2).sum(1)
    return (0.1 * log_prob - log_prob * worth).mean()


def of_a_ratio(nets: Nets, x: Tensor) -> Tensor:
    policy = gaussian(nets.encoder(x))
    action = policy.sample()
    log_prob = policy.log_prob(action).sum(1)
    return ((log_prob - log_prob.detach()).exp() * action.pow(2).sum(1)).mean()


def cloned(nets: Nets, x: Tensor) -> Tensor:
    """The actions of somebody else, beside samples for a plot."""
    policy = gaussian(nets.encoder(x))
    policy.sample()
    return policy.log_prob(x[:, :LATENT]).mean()


def with_entropy(nets: Nets, x: Tensor) -> Tensor:
    policy = gaussian(nets.encoder(x))
    log_prob = policy.log_prob(policy.sample()).mean()
    return log_prob - 0.1 * policy.entropy().mean()


def rewarded_as_a_batch(listen: Listen) -> None:
    """One reward for all, which is positive and not the same twice."""
    nets = Nets()
    optimizer = adam(nets.encoder)
    with listen(nets.encoder, optimizer):
        for step in range(4 * STEPS):
            policy = gaussian(nets.encoder(batch(step)[0]))
            action = policy.sample()
            optimizer.zero_grad()
            (policy.log_prob(action).mean() * action.pow(2).sum()).backward()
            optimizer.step()


FAULTY: dict[str, Program] = {
    "vae": at_once(vae("sample")),
    "vae by hand": at_once(vae_by_hand),
    "sac": actor_critic(lambda nets, x: squashed(nets, x, "sample")),
    "sac with a transform": actor_critic(transformed),
    "frozen critic": frozen(lambda nets, x: squashed(nets, x, "sample")),
    "frozen critic and a transform": frozen(transformed),
    "frozen critic and one distribution": frozen(one_distribution),
    "frozen critic and a constant scale": frozen(of_constant_scale),
    "drawn divergence": at_once(drawn_divergence),
}
HEALTHY: dict[str, Program] = {
    "vae": at_once(vae("rsample")),
    "density ratio": at_once(density_ratio, ()),
    "world model": at_once(world_model, ("decoder",)),
    "score function": at_once(score_function),
    "recurrent": at_once(recurrent, ("critic", "decoder")),
    "beta policy": at_once(beta_policy, ("decoder",)),
    "categorical policy": at_once(categorical_policy, ("decoder",)),
    "sac": actor_critic(lambda nets, x: squashed(nets, x, "rsample")),
    "frozen critic": frozen(lambda nets, x: squashed(nets, x, "rsample")),
    "joint return": frozen(joint_return),
    "elite": frozen(elite),
    "drawn entropy": frozen(with_a_drawn_entropy),
    "ratio": frozen(of_a_ratio),
    "cloned": frozen(cloned),
    "with entropy": frozen(with_entropy),
    "jointly": actor_critic(with_baseline, jointly=True),
}
