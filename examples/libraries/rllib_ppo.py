"""RLlib: PPO over tilts, four training runs side by side in one process."""

import sys

from ray.rllib.algorithms.ppo import PPOConfig

iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 20
game = {"budget": 0.1, "label_noise": 0.4, "observation": "run", "action": "tilts"}
config = (
    PPOConfig()
    .environment("dynprune_env:DynPrune-Digits-v0", env_config={**game, "reward": "final_accuracy"})
    .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
    .learners(num_learners=0)
    .training(gamma=1.0, lambda_=1.0, lr=1e-3, train_batch_size=160, minibatch_size=160)
)
algorithm = config.build_algo()
for _ in range(iterations):
    told = algorithm.train()["env_runners"]
    print(
        f"val accuracy {told['episode_return_mean']:.1%} "
        f"after {told['episode_len_mean']:.1f} epochs",
        flush=True,
    )
algorithm.stop()
