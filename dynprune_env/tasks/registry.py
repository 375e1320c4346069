"""Tasks: a data set, a model and a recipe, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from dynprune_env.common.alone import as_alone
from dynprune_env.common.checks import shown
from dynprune_env.common.registration import register_env
from dynprune_env.common.specs import lookup
from dynprune_env.tasks.datasets import (
    CIFAR10,
    CIFAR100,
    CLUTTER,
    CROWD,
    DIGITS,
    FASHION_MNIST,
    OVERLAP,
    PAIRS,
    PLANTED,
    SHIFTS,
    DatasetInfo,
)
from dynprune_env.tasks.losses import LABELS
from dynprune_env.tasks.models import Model, check_model
from dynprune_env.tasks.recipes import Augmentation, Recipe
from dynprune_env.tasks.variants import Variant
from dynprune_env.tasks.words import WORDS, WORDS_HASHED

UNCHANGED = Variant()


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        info: the data set.
        model: spec of a model of `models.MODELS`, e.g. "mlp(width=32)", or a function that makes
            a fresh module.
        recipe: how it is trained.
        variant: the corruption that belongs to the task; keyword arguments replace its values.
    """

    info: DatasetInfo
    model: Model
    recipe: Recipe
    variant: Variant = UNCHANGED

    def __post_init__(self) -> None:
        """Checks that the parts are what they should be.

        Raises:
            ValueError: one is not.
        """
        if not isinstance(self.info, DatasetInfo):
            raise ValueError(f"info is a DatasetInfo, got {shown(self.info)}")
        check_model(self.model, self.info.input_shape, self.info.vocabulary)
        check_parts(self.recipe, self.variant)
        given, loss = self.info.labels, self.recipe.loss
        if LABELS.get(loss, given) != given:
            raise ValueError(
                f"loss={loss!r} is of labels that are {LABELS[loss]}, got {given} in "
                f"{self.info.name}"
            )
        self.variant.check_labels(self.info)


def check_parts(recipe: Recipe, variant: Variant) -> None:
    """Checks what a task is trained with.

    Raises:
        ValueError: these are no `Recipe` and no `Variant`.
    """
    for name, value, kind in (("recipe", recipe, Recipe), ("variant", variant, Variant)):
        if not isinstance(value, kind):
            raise ValueError(f"{name} is a {kind.__name__}, got {shown(value)}")


# Rates and exponents: within 0.3 points of the best that `benchmarks.step_size` finds, budget by
# budget, for dynamic random on val data.
_DIGITS_RECIPE = Recipe(
    epochs=20, batch_size=64, learning_rate=0.09, budget_exponent=0.9, budget_floor=0.17
)
# Most labels are wrong there: the fewer steps, the longer they may be.
_PLANTED_RECIPE = Recipe(
    epochs=20, batch_size=64, learning_rate=0.007, budget_exponent=1.0, budget_floor=0.12
)
_OVERLAP_RECIPE = Recipe(epochs=20, batch_size=64, learning_rate=0.027, budget_exponent=0.8)

_SHIFTS_RECIPE = Recipe(
    epochs=60,
    batch_size=64,
    learning_rate=0.2,
    augmentation=Augmentation(crop=2),
    budget_exponent=0.5,
    budget_floor=0.15,
    budget_ceiling=0.3,
)

_PAIRS_RECIPE = replace(_SHIFTS_RECIPE, budget_exponent=0.26, budget_floor=0.1, budget_ceiling=0.2)

_CROP_AND_FLIP = Augmentation(crop=4, flip=True)

# The recipe behind the published tables: 200 epochs of SGD 0.1, one cycle, label smoothing 0.1.
_RESNET_RECIPE = Recipe(
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    warmup=0.3,
    label_smoothing=0.1,
    augmentation=_CROP_AND_FLIP,
)

_SMALL_CNN_RECIPE = Recipe(
    epochs=8,
    batch_size=128,
    learning_rate=0.1,
    augmentation=Augmentation(crop=2, flip=True),
    budget_exponent=-0.6,
    budget_ceiling=0.5,
    exponent_above=-1.2,
)
_CLUTTER_RECIPE = Recipe(
    epochs=8,
    batch_size=64,
    learning_rate=0.14,
    augmentation=Augmentation(crop=2),
    budget_exponent=-0.6,
    budget_floor=0.16,
    budget_ceiling=0.5,
)
_WORDS_RECIPE = Recipe(epochs=30, batch_size=64, learning_rate=0.3, budget_exponent=0.4)

TASKS: dict[str, Task] = {
    "Digits": Task(DIGITS, "mlp", _DIGITS_RECIPE),
    "Planted": Task(
        PLANTED,
        "mlp",
        _PLANTED_RECIPE,
        Variant(label_noise=0.8),
    ),
    "Overlap": Task(OVERLAP, "mlp", _OVERLAP_RECIPE),
    "Crowd": Task(
        CROWD, "mlp", Recipe(epochs=8, batch_size=64, learning_rate=0.1, budget_exponent=0.9)
    ),
    "Shifts": Task(SHIFTS, "mlp", _SHIFTS_RECIPE),
    "Pairs": Task(PAIRS, "mlp", _PAIRS_RECIPE),
    "Clutter": Task(
        CLUTTER,
        "small_cnn(width=8)",
        _CLUTTER_RECIPE,
    ),
    "Words": Task(WORDS, "ngram_bag", _WORDS_RECIPE),
    "WordsHashed": Task(WORDS_HASHED, "mlp", _WORDS_RECIPE),
    "FashionMNIST": Task(
        FASHION_MNIST, "mlp(width=128)", Recipe(epochs=10, batch_size=128, learning_rate=0.1)
    ),
    "CIFAR10": Task(CIFAR10, "resnet18", _RESNET_RECIPE),
    "CIFAR100": Task(CIFAR100, "resnet18", _RESNET_RECIPE),
    "CIFAR10Small": Task(CIFAR10, "small_cnn", _SMALL_CNN_RECIPE),
    "CIFAR100Small": Task(CIFAR100, "small_cnn", _SMALL_CNN_RECIPE),
}

_OWN: dict[str, Callable[[], Task]] = {}


def register_task(name: str, make_task: Callable[[], Task]) -> None:
    """Makes a task of one's own known as `DynPrune-<name>-v0`.

    Args:
        name: letters, digits and underscores; registering it again replaces the task.
        make_task: called at the first use in a process, with nothing; see `own_task`.

    Raises:
        ValueError: the name is not valid, or that of a task of dynprune.
    """
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise ValueError(
            f"a task's name is made of letters, digits and underscores, got {shown(name)}"
        )
    if name in TASKS and name not in _OWN:
        raise ValueError(f"{name} is a task of dynprune: choose another name")
    given: Any = make_task
    if not callable(given) or given is Task or isinstance(given, nn.Module):
        raise ValueError(f"make_task is a function that makes a Task, got {shown(make_task)}")
    TASKS.pop(name, None)
    _OWN[name] = make_task
    register_env(name)


def is_own(name: str) -> bool:
    """Whether a task was registered by `register_task`."""
    return name in _OWN


def own_factory(name: str) -> Callable[[], Task] | None:
    """The function that makes a task of one's own, None for those of dynprune."""
    return _OWN.get(name)


def task_names() -> list[str]:
    """All tasks, one's own last."""
    return list(dict.fromkeys([*TASKS, *_OWN]))


def find_task(name: str) -> Task:
    """The task of that name; one's own is made at its first use.

    Raises:
        ValueError: there is none; the message lists what there is. Or it is no `Task`.
    """
    if name in _OWN and name not in TASKS:
        with as_alone():
            task = _OWN[name]()
        if not isinstance(task, Task):
            raise ValueError(f"make_task of {name} gives a Task, got {type(task).__name__}")
        TASKS[name] = replace(task, info=replace(task.info, name=name))
    lookup(name, dict.fromkeys(task_names()), "task")
    return TASKS[name]
