"""REINFORCE (Williams 1992) in plain PyTorch: twins, one rank at the end, a short action."""

import sys

import gymnasium as gym
import torch

from dynprune_env import RelativeRewards

ID, GAMES, TWINS, SPREAD = "dynprune_env:DynPrune-Digits-v0", 4, 8, 0.3
game = {"budget": 0.1, "label_noise": 0.4, "observation": "run", "action": "tilts"}
updates = int(sys.argv[1]) if len(sys.argv) > 1 else 90
torch.manual_seed(0)
policy = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8))
[torch.nn.init.zeros_(last) for last in policy[-1].parameters()]  # begins as dynamic random
optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)


def play(seed, spread, wrap, **rows):
    envs = wrap(gym.make_vec(ID, autoreset_mode="Disabled", **rows, **game))
    (seen, _), states, actions, rewards = envs.reset(seed=seed), [], [], 0
    while not envs.unwrapped.ended.all():
        states.append(torch.as_tensor(seen))
        actions.append(torch.normal(policy(states[-1]).detach(), spread))
        seen, reward, _, _, infos = envs.step(actions[-1].numpy().clip(-1, 1))
        rewards = rewards + torch.as_tensor(reward)
    return torch.stack(states), torch.stack(actions), rewards, envs.unwrapped, infos


for update in range(updates + 1):
    if update in (0, updates):  # plays the means on data and seeds that it is not trained on
        *_, envs, infos = play(1000, 0.0, lambda envs: envs, num_envs=40, data_seed=1)
        val, test = infos["val_accuracy"].mean(), envs.evaluate("test").accuracy.mean()
        print(f"{update} updates: val accuracy {val:.1%}, test accuracy {test:.1%}", flush=True)
    rows = {"num_envs": GAMES * TWINS, "twins": TWINS, "data_seed": 1000 + update}
    states, actions, rewards, *_ = play(10_000 + update * GAMES, SPREAD, RelativeRewards, **rows)
    log_probabilities = ((actions - policy(states)) / SPREAD).square().sum((0, 2)) / -2
    optimizer.zero_grad()
    (-rewards * log_probabilities).mean().backward()
    optimizer.step()
