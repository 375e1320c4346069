"""What a step costs when it keeps half: the training time of 50 % over that of 100 %.

Both environments run in one process and take turns, so that a busy machine slows both alike.

    python -m benchmarks.step_cost                        # CIFAR10Small: two to five minutes
    python -m benchmarks.step_cost --env DynPrune-Digits-v0 --rounds 20
"""

from __future__ import annotations

import time
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
import typer


def main(
    env: Annotated[str, typer.Option("--env")] = "DynPrune-CIFAR10Small-v0",
    rounds: Annotated[int, typer.Option("--rounds", help="Epochs of each kind.")] = 4,
    threads: int = 1,
) -> None:
    """Prints the seconds of each kind of step and their ratio."""
    torch.set_num_threads(threads)
    shares = (1.0, 0.5)
    seconds: dict[float, list[float]] = {share: [] for share in shares}
    envs = {
        share: gym.make(f"dynprune_env:{env}", budget=1.0, epochs=rounds + 1) for share in shares
    }
    rng = np.random.default_rng(0)
    for each in envs.values():
        each.reset(seed=0)
    for epoch in range(rounds + 1):
        for share, each in envs.items():
            trainer = each.unwrapped.vector.trainer
            evaluated, start = trainer.seconds["evaluate"], time.process_time()
            each.step(rng.permutation(trainer.num_samples) < share * trainer.num_samples)
            evaluated = trainer.seconds["evaluate"] - evaluated
            if epoch:  # the first of each is warm-up
                seconds[share].append(time.process_time() - start - evaluated)
    ratio = np.median(seconds[0.5]) / np.median(seconds[1.0])
    for share in shares:
        print(
            f"{env}, keeping {share:4.0%}: median {np.median(seconds[share]):.3f} CPU s per epoch"
        )
    print(f"50 % / 100 %: {ratio:.3f}; {rounds} rounds, {threads} thread(s), {torch.__version__}")


if __name__ == "__main__":
    typer.run(main)
