"""TorchRL: a collector plays a Gaussian policy over tilts, REINFORCE improves it."""

import sys

import torch
from tensordict.nn import TensorDictModule
from torchrl.collectors import Collector
from torchrl.envs import ExplorationType, GymEnv, set_exploration_type
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ReinforceLoss
from torchrl.objectives.value import TDLambdaEstimator

batches = int(sys.argv[1]) if len(sys.argv) > 1 else 30
torch.manual_seed(0)
game = {"budget": 0.1, "label_noise": 0.4, "observation": "run", "action": "tilts"}
env = GymEnv("dynprune_env:DynPrune-Digits-v0", reward="final_accuracy", **game)

net = torch.nn.Sequential(
    torch.nn.Linear(12, 32), torch.nn.Tanh(), torch.nn.Linear(32, 16), NormalParamExtractor()
)
actor = ProbabilisticActor(
    TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]),
    in_keys=["loc", "scale"],
    distribution_class=TanhNormal,
    return_log_prob=True,
)
critic = ValueOperator(torch.nn.Linear(12, 1), in_keys=["observation"])
loss = ReinforceLoss(actor, critic)
advantage = TDLambdaEstimator(gamma=1.0, lmbda=1.0, value_network=critic)
optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)

collector = Collector(env, actor, frames_per_batch=100, total_frames=100 * batches)
for batch in collector:
    advantage(batch)
    losses = loss(batch)
    (losses["loss_actor"] + losses["loss_value"]).backward()
    optimizer.step()
    optimizer.zero_grad()
    ended = batch["next", "reward"][batch["next", "done"]]
    print(f"val accuracy of {len(ended)} episodes: {ended.mean():.1%}", flush=True)
collector.shutdown(close_env=False)
with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
    env.rollout(20, actor)
print(f"test accuracy after training: {env.unwrapped.evaluate('test').accuracy:.1%}")
