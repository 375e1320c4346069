"""Dynamic data pruning as a Gymnasium environment.

An episode is a training run, a step is one epoch, an action is a keep/drop mask over the training
samples, the reward is the loss improvement.
"""

from typing import TYPE_CHECKING

from dynprune_env.common.lazy import lazy_names
from dynprune_env.common.registration import register_env

if TYPE_CHECKING:  # what editors and mypy see; at run time a name is loaded at its first use
    from dynprune_env.benchmark.analysis import Results as Results
    from dynprune_env.benchmark.analysis import kept_masks as kept_masks
    from dynprune_env.benchmark.analysis import load_results as load_results
    from dynprune_env.benchmark.analysis import to_frame as to_frame
    from dynprune_env.benchmark.episodes import run_episodes as run_episodes
    from dynprune_env.benchmark.results import Result as Result
    from dynprune_env.benchmark.results import RunConfig as RunConfig
    from dynprune_env.common.randomness import ReplicaRandom as ReplicaRandom
    from dynprune_env.envs.env import DynPruneEnv as DynPruneEnv
    from dynprune_env.envs.relative import RelativeRewards as RelativeRewards
    from dynprune_env.envs.settings import Settings as Settings
    from dynprune_env.envs.vector_env import DynPruneVectorEnv as DynPruneVectorEnv
    from dynprune_env.integrations.schedule import progress_scheduler as progress_scheduler
    from dynprune_env.sampler.loading import Indexed as Indexed
    from dynprune_env.sampler.loading import WholeBatches as WholeBatches
    from dynprune_env.sampler.sampler import PruningSampler as PruningSampler
    from dynprune_env.selection.agent import Episode as Episode
    from dynprune_env.selection.ranking import keep_top as keep_top
    from dynprune_env.selection.ranking import rank as rank
    from dynprune_env.selection.ranking import standardise as standardise
    from dynprune_env.selection.statistics import SampleStatistics as SampleStatistics
    from dynprune_env.tasks.own import own_task as own_task
    from dynprune_env.tasks.recipes import Augmentation as Augmentation
    from dynprune_env.tasks.recipes import Recipe as Recipe
    from dynprune_env.tasks.registry import Task as Task
    from dynprune_env.tasks.registry import register_task as register_task
    from dynprune_env.training.trainer import Evaluation as Evaluation
    from dynprune_env.training.trainer import Trainer as Trainer

__version__ = "0.2.0.dev0"

# Strings and names only: importing this package loads neither torch nor data.
TASK_NAMES = (
    "Digits",
    "Planted",
    "Overlap",
    "Crowd",
    "Shifts",
    "Pairs",
    "Clutter",
    "Words",
    "WordsHashed",
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
    "Evaluation": "training.trainer",
    "Indexed": "sampler.loading",
    "keep_top": "selection.ranking",
    "kept_masks": "benchmark.analysis",
    "load_results": "benchmark.analysis",
    "own_task": "tasks.own",
    "progress_scheduler": "integrations.schedule",
    "PruningSampler": "sampler.sampler",
    "rank": "selection.ranking",
    "Recipe": "tasks.recipes",
    "register_task": "tasks.registry",
    "RelativeRewards": "envs.relative",
    "ReplicaRandom": "common.randomness",
    "Result": "benchmark.results",
    "Results": "benchmark.analysis",
    "run_episodes": "benchmark.episodes",
    "RunConfig": "benchmark.results",
    "SampleStatistics": "selection.statistics",
    "Settings": "envs.settings",
    "standardise": "selection.ranking",
    "Task": "tasks.registry",
    "to_frame": "benchmark.analysis",
    "Trainer": "training.trainer",
    "WholeBatches": "sampler.loading",
}

__all__ = ["TASK_NAMES", "__version__", *_EXPORTS]

__getattr__, __dir__ = lazy_names(__name__, _EXPORTS, [*globals()])
