"""SARSA on a grid, with a network and no memory: many walkers at once."""
import os

import torch
import torch.nn.functional as F
from torch import nn

SIZE, GAMMA, WALKERS = 5, 0.9, 64
MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


def encode(cells):
    return F.one_hot(cells[:, 0] * SIZE + cells[:, 1], SIZE * SIZE).float()


def choose(q_net, cells, greed):
    with torch.no_grad():
        best = q_net(encode(cells)).argmax(1)
    random = torch.randint(4, (len(cells),))
    return torch.where(torch.rand(len(cells)) < greed, best, random)


def walk(cells, actions):
    following = (cells + MOVES[actions]).clamp(0, SIZE - 1)
    done = (following == SIZE - 1).all(1)
    return following, torch.where(done, 1.0, -0.05), done.float()


def update(q_net, optimizer, cells, actions, rewards, following, next_actions, done):
    q = q_net(encode(cells)).gather(1, actions[:, None]).squeeze(1)
    with torch.no_grad():
        next_q = q_net(encode(following)).gather(1, next_actions[:, None]).squeeze(1)
        target = rewards + GAMMA * next_q * (1 - done)
    loss = F.smooth_l1_loss(q, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def distance(q_net):
    """Return how many moves beyond the shortest way are made from each cell, up to ten."""
    cells = torch.cartesian_prod(torch.arange(SIZE), torch.arange(SIZE))[:-1]
    shortest = (2 * (SIZE - 1) - cells.sum(1)).float()
    moves, open_ = torch.zeros(len(cells)), torch.ones(len(cells))
    for _ in range(18):
        moves += open_
        cells, _, done = walk(cells, choose(q_net, cells, 1.0))
        open_ = open_ * (1 - done)
    return (moves - shortest).clamp(max=10).mean().item()


def main():
    torch.manual_seed(int(os.environ.get("SEED", 0)))
    q_net = nn.Sequential(nn.Linear(SIZE * SIZE, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.Adam(q_net.parameters(), lr=3e-3)
    before = distance(q_net)
    cells = torch.randint(SIZE, (WALKERS, 2))
    actions = choose(q_net, cells, 0.7)
    for _ in range(400):
        following, rewards, done = walk(cells, actions)
        next_actions = choose(q_net, following, 0.7)
        update(q_net, optimizer, cells, actions, rewards, following, next_actions, done)
        fresh = torch.randint(SIZE, (WALKERS, 2))
        cells = torch.where(done[:, None].bool(), fresh, following)
        actions = torch.where(done.bool(), choose(q_net, cells, 0.7), next_actions)
    print(f"score {before:.4f} -> {distance(q_net):.4f}")


if __name__ == "__main__":
    main()
