"""GRPO (Shao et al. 2024) in plain PyTorch: a group is twins, and their scores are normalised."""

import sys

import gymnasium as gym
import torch

ID, ROWS, TWINS, SPREAD = "dynprune_env:DynPrune-Digits-v0", 32, 8, 0.3
game = {"budget": 0.1, "label_noise": 0.4, "observation": "run", "action": "tilts"}
updates = int(sys.argv[1]) if len(sys.argv) > 1 else 60
torch.manual_seed(0)
policy = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8))
[torch.nn.init.zeros_(last) for last in policy[-1].parameters()]  # begins as dynamic random
optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)


def play(seed, data, twins, spread):
    envs = gym.make_vec(ID, ROWS, twins=twins, data_seed=data, autoreset_mode="Disabled", **game)
    (seen, _), states, actions = envs.reset(seed=seed), [], []
    while not envs.unwrapped.ended.all():
        states.append(torch.as_tensor(seen))
        actions.append(torch.normal(policy(states[-1]).detach(), spread))
        seen, _, _, _, infos = envs.step(actions[-1].numpy().clip(-1, 1))
    return torch.stack(states), torch.stack(actions), infos["val_accuracy"], envs.unwrapped


for update in range(updates + 1):
    if update in (0, updates):  # plays the means on data and seeds that it is not trained on
        *_, val, envs = play(1000, 1, 1, 0.0)
        test = envs.evaluate("test").accuracy.mean()
        print(f"{update} updates: val accuracy {val.mean():.1%}, test accuracy {test:.1%}")
    states, actions, scores, _ = play(10_000 + update * ROWS, 1000 + update, TWINS, SPREAD)
    groups = torch.as_tensor(scores).view(-1, TWINS)
    gain = ((groups.T - groups.mean(1)) / (groups.std(1) + 1e-6)).T.flatten()
    old = ((actions - policy(states)) / SPREAD).square().sum(-1).detach()  # -2 log p, Gaussian
    for _ in range(4):
        ratio = ((old - ((actions - policy(states)) / SPREAD).square().sum(-1)) / 2).exp()
        optimizer.zero_grad()
        (-torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain)).mean().backward()
        optimizer.step()
