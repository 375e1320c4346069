"""Which trainer an algorithm's name stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynprune_agents.learning.cloning import CloningSettings, CloningTrainer
from dynprune_agents.learning.evolution import EvolutionSettings, EvolutionTrainer
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.training import PolicyTrainer
from dynprune_env.common.specs import checked_arguments, lookup

ALGORITHMS = ("es", "cloning", "ppo", "a2c", "sac", "td3", "dqn", "trpo", "ars", "tqc")


def make_trainer(
    algo: str,
    mixture: Mixture,
    *,
    observation: str | None,
    action: str | None,
    num_envs: int | None,
    steps: int,
    seed: int,
    settings: dict[str, Any],
    start: str | None = None,
    jobs: int = 1,
    tensorboard: Path | None = None,
    twins: int | None = None,
    relative: str | None = None,
) -> PolicyTrainer:
    """A trainer for these arguments of `dynprune train`; None is what fits the algorithm.

    Raises:
        ValueError: an argument does not fit the algorithm.
    """
    lookup(algo, dict.fromkeys(ALGORITHMS), "algorithm")
    if algo in ("es", "cloning") and (twins, relative) != (None, None):
        raise ValueError(
            "--twins and --relative are for the algorithms of Stable-Baselines3, "
            f"got {twins} and {relative} for --algo {algo}"
        )
    if algo == "cloning":
        if (observation or "samples", action or "mask", start) != ("samples", "mask", None):
            raise ValueError(
                "--algo cloning trains a scorer (observation samples, action mask) from the "
                f"beginning, got {observation}, {action} and --start {start}"
            )
        checked = checked_arguments(CloningSettings, settings, "--algo cloning")
        return CloningTrainer(
            mixture,
            replicas=4 if num_envs is None else num_envs,
            seed=seed,
            steps=steps,
            settings=CloningSettings(**checked),
            jobs=jobs,
        )
    if algo == "es":
        action = action or "mask"
        fits = {"mask": "samples", "tilts": "run"}
        if action not in fits or observation not in (None, fits[action]):
            raise ValueError(
                "--algo es trains a scorer (observation samples, action mask) or a planner "
                f"(run, tilts), got {observation} and {action}"
            )
        checked = checked_arguments(EvolutionSettings, settings, "--algo es")
        return EvolutionTrainer(
            mixture,
            num_envs=64 if num_envs is None else num_envs,
            seed=seed,
            steps=steps,
            settings=EvolutionSettings(**checked),
            start=start,
            action=action,
            jobs=jobs,
        )
    from dynprune_agents.learning import sb3_algorithms
    from dynprune_agents.learning.sb3_trainer import GROUP_SIZE, SB3Trainer

    action = action or ("strategy" if algo == "dqn" else "tilts")
    observation = observation or sb3_algorithms.ALGORITHMS[algo].observation(action)
    return SB3Trainer(
        algo,
        mixture,
        num_envs=32 if num_envs is None else num_envs,
        steps=steps,
        seed=seed,
        twins=GROUP_SIZE if twins is None else twins,
        relative=relative,
        observation=observation,
        action=action,
        reward=mixture.env_kwargs["reward"],
        hyperparameters=settings,
        start=start,
        tensorboard=tensorboard,
    )
