"""Dynamic data pruning as a Gymnasium environment.

An episode is a training run, a step is one epoch, an action is a keep/drop mask over the training
samples, the reward is the loss improvement.
"""

from importlib import import_module
from typing import Any

from dynprune_env.common.registration import register_env

__version__ = "0.1.0"

# Strings and names only: importing this package loads neither torch nor data.
TASK_NAMES = (
    "Digits",
    "Planted",
    "Overlap",
    "Crowd",
    "Clutter",
    "FashionMNIST",
    "CIFAR10Small",
    "CIFAR100Small",
    "CIFAR10",
    "CIFAR100",
)

for _name in TASK_NAMES:
    register_env(_name)

_EXPORTS = {
    "Augmentation": "tasks.recipes",
    "DynPruneEnv": "envs.env",
    "DynPruneVectorEnv": "envs.vector_env",
    "Episode": "selection.agent",
    "Indexed": "sampler.loading",
    "Evaluation": "training.trainer",
    "PruningSampler": "sampler.sampler",
    "Recipe": "tasks.recipes",
    "ReplicaRandom": "common.randomness",
    "Result": "benchmark.results",
    "RunConfig": "benchmark.results",
    "SampleStatistics": "selection.statistics",
    "Settings": "envs.settings",
    "Task": "tasks.registry",
    "Trainer": "training.trainer",
    "WholeBatches": "sampler.loading",
    "keep_top": "selection.ranking",
    "own_task": "tasks.own",
    "rank": "selection.ranking",
    "register_task": "tasks.registry",
    "run_episodes": "benchmark.episodes",
    "standardise": "selection.ranking",
}

__all__ = ["TASK_NAMES", "__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    """Loads a public name at its first use."""
    if name in _EXPORTS:
        return getattr(import_module(f"dynprune_env.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
