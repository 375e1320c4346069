"""What can be chosen about the game, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import torch

from dynprune_env.common.bf16 import cpu_is_faster_in_bf16
from dynprune_env.common.checks import MOST_THREADS, real, shown, whole
from dynprune_env.common.registration import VECTOR_ENTRY_POINT, import_all, split_id
from dynprune_env.common.specs import checked_arguments, did_you_mean, lookup
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.budget import WEIGHTS
from dynprune_env.selection.observations import OBSERVATIONS
from dynprune_env.selection.rewards import find_reward
from dynprune_env.selection.statistics import SampleStatistics, check_columns
from dynprune_env.tasks.models import check_model, is_mlp
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.registry import Task, find_task
from dynprune_env.tasks.variants import Variant, check_size
from dynprune_env.training.learner import LEARNERS, check_recipe, is_served

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
"""What a device may be, besides one with a number, and those of rare machines."""

IMPORTED = "'my_module:DynPrune-Mine-v0', or of a command --import my_module before it"
"""How the module is named that registers a task of one's own."""


@dataclass(frozen=True)
class Settings:
    """The keyword arguments of the environments; None takes the task's own value.

    Attributes:
        task: name of a task; the id's middle part.
        budget: share of a full run's T n sample visits that an episode may spend, in (0, 1].
        epochs: T, the most steps of an episode.
        model: spec of a model, e.g. "mlp(width=32)" or "resnet9".
        learning_rate: at the peak of the schedule; None takes the task's, which may depend on the
            budget (see `Recipe`).
        batch_size: samples per gradient step.
        reward: "val_loss", "val_accuracy", "log_val_loss" or "train_loss", which telescope: for
            analysis, and where a signal at every step is wanted. "final_accuracy" or "final_loss",
            paid once at the end. Policies learn best from what `RelativeRewards` pays. Or
            "my_module:function", a pure function of one's own, see `find_reward`.
        observation: "samples", "summary", "run" or "diagnostics".
        action: "mask", "weights", "quantiles", "strategy", "tilts",
            "weighted_tilts" or "paced_tilts".
        weights: "mean_one" scales the gradient weights of an epoch to a mean of one: a rule chooses
            what counts, not how large the steps are. "raw" takes them as they are, for rules whose
            source does; compare these with a control of the same weights (`random_control`).
        observe: "visited" re-scores only trained samples; "all" also scores the dropped ones,
            and charges a third of a visit for each; what the budget cannot pay for is not scored.
        label_noise, imbalance, duplicates, train_size, data_seed: see `Variant`.
        device: "auto" (CUDA where there is one), or a device that this torch has, such as "cpu",
            "cuda:1", "mps" or "xpu".
        threads: torch's threads on a CPU, 1 to 1024; more are faster for large nets, and round
            differently. Plain ReLU nets take one, unless modules train them.
        precision: "auto" (bf16 autocast for convolutional nets where that is faster),
            "fp32" or "bf16". Plain ReLU nets always train in fp32. On CUDA torch's own switches
            say what fp32 is: at first convolutions take TF32, other products do not.
        deterministic: whether cuDNN takes only algorithms that give the same numbers again, which
            may be slower; a CPU always gives the same.
        compile: whether `torch.compile` makes the code of convolutional nets: pays on CUDA for
            long runs, not on CPUs. Needs a C++ compiler.
        learner: what trains the models: "modules" (any module, one after the other), "stacked"
            (plain ReLU nets as one stack of matrices), "numba" (these in compiled loops, on a
            CPU), or "auto", which takes the last of them that fits. They agree to rounding. The
            last two train with `optimizer="sgd"` and `loss="cross_entropy"` only, on any schedule.
        averaging: keeps an exponential moving average of each model, moved after every gradient
            step, for rules that ask for it (`Probe.models`): the weight of the old one, in [0, 1).
            None keeps none.
        columns: names out of `SampleStatistics.COLUMNS`: of what training reveals about samples
            only these are observed (kind "samples") and kept in memory, besides what the kinds of
            action and observation need. No number of a run depends on it. None for all.
        data_dir: folder of the data sets; None searches $DYNPRUNE_DATA, then ~/.cache/dynprune.
        download: whether absent files may be downloaded.
    """

    task: str = "Digits"
    budget: float = 0.5
    epochs: int | None = None
    model: str | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    reward: str = "val_loss"
    observation: str = "samples"
    action: str = "mask"
    weights: str = "mean_one"
    observe: str = "visited"
    label_noise: float | None = None
    imbalance: float | None = None
    duplicates: float | None = None
    train_size: int | None = None
    data_seed: int = 0
    device: str = "auto"
    threads: int = 1
    precision: str = "auto"
    deterministic: bool = False
    compile: bool = False
    learner: str = "auto"
    averaging: float | None = None
    columns: tuple[str, ...] | None = None
    data_dir: str | None = None
    download: bool = True

    def __post_init__(self) -> None:
        """Checks every value; recipe and variant check what goes into them.

        Raises:
            ValueError: a value is not one of those described above.
        """
        for name, value in checked_arguments(Settings, self.as_dict(), "the environment").items():
            object.__setattr__(self, name, value)  # numpy's numbers as Python's
        real("budget is a share of a full run", self.budget, "(0, 1]")
        if self.averaging is not None:
            real("averaging is a weight", self.averaging, "[0, 1)")
        if self.columns is not None:
            object.__setattr__(self, "columns", check_columns(self.columns))
        whole("threads", self.threads, 1, MOST_THREADS)
        find_reward(self.reward)
        for name, registry in (
            ("observation", OBSERVATIONS),
            ("action", ACTIONS),
        ):
            lookup(getattr(self, name), registry, name)
        for name, choices in (
            ("weights", WEIGHTS),
            ("observe", ("visited", "all")),
            ("precision", ("auto", "fp32", "bf16")),
            ("learner", LEARNERS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {choices}, got {getattr(self, name)!r}")
        check_size(self.train_size, find_task(self.task).info)
        task = self.resolved
        task.variant.check(task.info)
        check_model(task.model, task.info.input_shape, task.info.vocabulary)
        check_recipe(self.learner, task.recipe)

    @cached_property
    def resolved(self) -> Task:
        """The task with these settings put into its recipe, model and variant."""
        task = find_task(self.task)
        recipe = self._put_into(task.recipe)
        if self.learning_rate is None:
            recipe = recipe.at_budget(self.budget)
        return replace(
            task,
            model=task.model if self.model is None else self.model,
            recipe=recipe,
            variant=self._put_into(task.variant),
        )

    def _put_into(self, target: Any) -> Any:
        """`target` with those of its fields replaced that are set here."""
        names = {field.name for field in fields(target)} & {field.name for field in fields(self)}
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(target, **chosen)

    @property
    def recipe(self) -> Recipe:
        """How to train."""
        return self.resolved.recipe

    @property
    def variant(self) -> Variant:
        """How the data are drawn and corrupted."""
        return self.resolved.variant

    @property
    def num_samples(self) -> int:
        """The number of train samples, n."""
        return self.variant.num_samples(self.resolved.info)

    @property
    def observed(self) -> tuple[str, ...]:
        """The columns that observations of kind "samples" have."""
        return SampleStatistics.COLUMNS if self.columns is None else self.columns

    @property
    def most_threads(self) -> int:
        """Those that torch may take: one for plain ReLU nets, but for those that modules train."""
        fast = self.learner != "modules" and is_served("numba", self.recipe)
        return 1 if fast and is_mlp(self.resolved.model) else self.threads

    def as_dict(self) -> dict[str, Any]:
        """The keyword arguments that make these settings."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def find_device(self) -> torch.device:
        """The device to train on.

        Raises:
            ValueError: torch does not know it, or it is not there.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.empty(0, device=self.device).device  # "cuda" with its number
        except (RuntimeError, AssertionError, ImportError) as error:
            why = ": " + str(error).partition(". ")[0].partition("\n")[0]
            if why.startswith(": Expected one of"):  # twenty names, and none of them is meant
                why = did_you_mean(self.device, DEVICES, also={"gpu": "cuda"})
                why = why and f".{why}"
            raise ValueError(
                f"device {self.device!r} cannot be used: expected 'auto' or a device that this "
                f"torch has, such as 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu'{why}"
            ) from error
        if device.type == "meta":
            raise ValueError("device 'meta' cannot be used: nothing is computed on it")
        return device

    def check_device(self) -> None:
        """Checks that the device is there, as `find_device` does, but never starts CUDA.

        Where CUDA has been started, processes that are forked off cannot use it.

        Raises:
            ValueError: it is not.
        """
        kind, _, number = self.device.partition(":")
        if kind == "cuda" and f"{number or 0}" in map(str, range(torch.cuda.device_count())):
            return
        if self.device != "auto":
            self.find_device()

    def use_bf16(self, device: torch.device) -> bool:
        """Whether convolutional nets run under bf16 autocast on this device."""
        if self.precision != "auto":
            return self.precision == "bf16"
        if is_mlp(self.resolved.model) or len(self.resolved.info.input_shape) != 3:
            return False
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return device.type == "cpu" and cpu_is_faster_in_bf16()


def settings_of(env: str, env_kwargs: dict[str, Any]) -> Settings:
    """The settings that `gym.make(env, **env_kwargs)` would have, checked before it is made.

    Raises:
        ValueError: see `known_env`, or an argument is not valid.
    """
    spec = gym.spec(known_env(env))
    return Settings(**checked_arguments(Settings, {**spec.kwargs, **env_kwargs}, env))


def known_env(env: str) -> str:
    """The id of an environment, once it is sure that there is one.

    A module in front of it, as in "my_module:DynPrune-Mine-v0", is imported as `gym.make` does: ids
    that others wrote are not for this function, unless their code is trusted.

    Returns:
        The id alone.

    Raises:
        ValueError: there is none; the message lists those of this package. Or it is of another
            package, or its module cannot be imported.
    """
    if not isinstance(env, str):
        raise ValueError(f"an environment is named by its id, a text, got {shown(env)}")
    modules, name = split_id(env)
    import_all(modules)
    if name not in gym.registry:
        ours = [s.id for s in gym.registry.values() if s.vector_entry_point == VECTOR_ENTRY_POINT]
        hint = did_you_mean(name, ours, also={each.split("-")[1]: each for each in ours})
        own = "" if modules else f" One of your own needs its module, {IMPORTED}."
        raise ValueError(
            f"no environment is called {env!r}; there are {', '.join(ours)}.{own}{hint}"
        )
    if gym.spec(name).vector_entry_point != VECTOR_ENTRY_POINT:
        raise ValueError(f"{env} is not an environment of dynprune_env")
    return name
