"""REINFORCE (Williams 1992) in plain PyTorch: twins, one rank at the end, a short action."""

import sys

import gymnasium as gym
import numpy as np
import torch

from dynprune_env import RelativeRewards

ID, GAMES, TWINS, SPREAD = "dynprune_env:DynPrune-Digits-v0", 4, 8, 0.3
updates = int(sys.argv[1]) if len(sys.argv) > 1 else 90
game = {"budget": 0.1, "label_noise": 0.4, "observation": "run", "action": "tilts"}
game["autoreset_mode"] = "Disabled"

torch.manual_seed(0)
policy = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8))
for parameter in policy[-1].parameters():
    torch.nn.init.zeros_(parameter)  # it begins as dynamic random, which zeros are
optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)


def report(name: str) -> None:
    """Plays the mean of the policy on data and seeds that it is not trained on."""
    envs = gym.make_vec(ID, num_envs=40, data_seed=1, **game)
    seen, _ = envs.reset(seed=1000)
    while not envs.unwrapped.ended.all():
        means = policy(torch.as_tensor(seen)).detach().numpy()
        seen, _, _, _, infos = envs.step(means.clip(-1, 1))
    val, test = infos["val_accuracy"].mean(), envs.unwrapped.evaluate("test").accuracy.mean()
    print(f"{name}: val accuracy {val:.1%}, test accuracy {test:.1%}", flush=True)


report("zero action   ")
for update in range(updates):
    # New data for each update, so that nothing is learned by heart.
    envs = gym.make_vec(ID, num_envs=GAMES * TWINS, twins=TWINS, data_seed=1000 + update, **game)
    envs = RelativeRewards(envs, kind="rank")
    seen, _ = envs.reset(seed=10_000 + update * GAMES)
    returns, log_probabilities = np.zeros(GAMES * TWINS), []
    while not envs.ended.all():
        drawn = torch.distributions.Normal(policy(torch.as_tensor(seen)), SPREAD)
        action = drawn.sample()
        log_probabilities.append(drawn.log_prob(action).sum(1))
        seen, rewards, _, _, _ = envs.step(action.numpy().clip(-1, 1))
        returns += rewards
    loss = -(torch.as_tensor(returns) * torch.stack(log_probabilities).sum(0)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
report("after training")
