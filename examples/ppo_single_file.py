"""PPO (Schulman et al. 2017) in one file, after CleanRL: gym.make_vec and RelativeRewards alone."""

import argparse
import time

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from dynprune_env import RelativeRewards

parser = argparse.ArgumentParser()
parser.add_argument("--env-id", default="dynprune_env:DynPrune-Digits-v0")
parser.add_argument("--budget", type=float, default=0.1)
parser.add_argument("--label-noise", type=float, default=0.4)
parser.add_argument("--action", default="tilts", help="tilts or weighted_tilts")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--updates", type=int, default=60)
parser.add_argument("--games", type=int, default=4, help="groups of twins in each update")
parser.add_argument("--twins", type=int, default=8, help="runs that share everything but actions")
parser.add_argument("--learning-rate", type=float, default=0.003)
parser.add_argument("--update-epochs", type=int, default=8)
parser.add_argument("--clip", type=float, default=0.2)
parser.add_argument("--max-grad-norm", type=float, default=0.5)
parser.add_argument("--test-runs", type=int, default=40)
args = parser.parse_args()

torch.manual_seed(args.seed)
torch.set_num_threads(1)
rng = np.random.default_rng(args.seed)


def make(num_envs: int, **kwargs: object) -> gym.vector.VectorEnv:
    """Runs of the game; one that has ended waits for the others."""
    game = {"budget": args.budget, "label_noise": args.label_noise, "action": args.action}
    kinds = {"observation": "run", "autoreset_mode": "Disabled"}
    return gym.make_vec(args.env_id, num_envs=num_envs, **game, **kinds, **kwargs)


def layer(inputs: int, outputs: int, gain: float = np.sqrt(2)) -> nn.Linear:
    """Orthogonal weights and no bias at first."""
    made = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(made.weight, gain)
    nn.init.zeros_(made.bias)
    return made


class Agent(nn.Module):
    """A Gaussian policy whose mean begins near zero, which is dynamic random, and a critic."""

    def __init__(self, seen: int, done: int):
        super().__init__()
        self.actor = nn.Sequential(layer(seen, 16), nn.Tanh(), layer(16, done, 0.01))
        self.critic = nn.Sequential(layer(seen, 16), nn.Tanh(), layer(16, 1, 1.0))
        self.log_std = nn.Parameter(torch.full((done,), -1.2))

    def forward(self, seen: torch.Tensor) -> tuple[torch.distributions.Normal, torch.Tensor]:
        """The distribution of actions, and the values (...)."""
        drawn = torch.distributions.Normal(self.actor(seen), self.log_std.exp())
        return drawn, self.critic(seen).squeeze(-1)


def test(policy: nn.Module) -> tuple[float, float]:
    """Mean val and test accuracy of a policy on data and seeds that it is not trained on."""
    envs = make(args.test_runs, data_seed=1)
    seen, _ = envs.reset(seed=1000)
    while not envs.unwrapped.ended.all():
        action = policy(torch.as_tensor(seen)).detach().numpy().clip(-1, 1)
        seen, _, _, _, infos = envs.step(action)
    return infos["val_accuracy"].mean(), envs.unwrapped.evaluate("test").accuracy.mean()


rows = args.games * args.twins
shapes = make(1)
agent = Agent(shapes.single_observation_space.shape[0], shapes.single_action_space.shape[0])
optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
start = time.perf_counter()
for update in range(args.updates):
    optimizer.param_groups[0]["lr"] = args.learning_rate * max(0.1, 1 - update / args.updates)

    # A rollout is whole episodes, on new data each time; the ranks among twins come at their ends.
    envs = make(rows, twins=args.twins, data_seed=int(rng.integers(2**20, 2**30)))
    envs = RelativeRewards(envs, kind="rank")
    seen, _ = envs.reset(seed=int(rng.integers(2**20, 2**30)))
    steps, over = [], np.zeros(rows, dtype=bool)
    while not over.all():
        with torch.no_grad():
            drawn, value = agent(torch.as_tensor(seen))
            action = drawn.sample()
        known = torch.as_tensor(seen), action, drawn.log_prob(action).sum(1), value
        alive = torch.as_tensor(~over)
        seen, reward, over, _, _ = envs.step(action.numpy().clip(-1, 1))
        steps.append((*known, torch.as_tensor(reward, dtype=torch.float32), alive))
    observations, actions, log_probs, values, rewards, alive = map(
        torch.stack, zip(*steps, strict=True)
    )

    # gamma = lambda = 1: what a step is worth is what its run is ranked in the end.
    returns = rewards.flip(0).cumsum(0).flip(0)
    advantages = (returns - values)[alive]
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    for _ in range(args.update_epochs):
        drawn, value = agent(observations[alive])
        ratio = (drawn.log_prob(actions[alive]).sum(1) - log_probs[alive]).exp()
        clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        loss = policy_loss + 0.5 * (value - returns[alive]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
        optimizer.step()
    if update % 10 == 9:
        print(f"update {update + 1}, {time.perf_counter() - start:.0f} s", flush=True)

zeros = nn.Linear(agent.actor[0].in_features, agent.log_std.numel())
nn.init.zeros_(zeros.weight), nn.init.zeros_(zeros.bias)
for name, policy in (("zero action", zeros), ("PPO", agent.actor)):
    print("{}: val accuracy {:.1%}, test accuracy {:.1%}".format(name, *test(policy)))
