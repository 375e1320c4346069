"""What can be chosen is checked where it is said: one sentence, and numpy's numbers are taken."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import dynprune_agents
from dynprune_env import Augmentation, DynPruneVectorEnv, Recipe, Settings, Task, run_episodes
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import RunConfig
from dynprune_env.tasks.datasets import DIGITS
from dynprune_env.tasks.registry import find_task
from dynprune_env.tasks.variants import Variant

ID = "DynPrune-Digits-v0"
GOOD = {"epochs": 3, "batch_size": 16, "learning_rate": 0.1}
NO_NUMBERS: tuple[Any, ...] = (math.nan, math.inf, -math.inf, True, "1", [1], np.array([1]), 1j)
INTERVALS = {
    "learning_rate": ("(0, inf)", (0, -0.1, 10**400)),
    "warmup": ("[0, 1)", (-0.1, 1, 2)),
    "momentum": ("[0, 1)", (-0.1, 1, 1.5)),
    "weight_decay": ("[0, inf)", (-1e-9,)),
    "label_smoothing": ("[0, 1]", (-0.1, 1.1)),
    "budget_exponent": ("(-inf, inf)", ()),
    "budget_floor": ("[0, 1]", (-0.1, 1.1)),
    "budget_ceiling": ("(0, 1]", (0, 1.1)),
    "exponent_above": ("(-inf, inf)", ()),
}
SHARES = {
    "label_noise": ("[0, 1]", (-0.1, 1.1)),
    "imbalance": ("(0, 1]", (0, 1.1)),
    "duplicates": ("[0, 1)", (-0.1, 1.0)),
}


def refused(make: Callable[[], Any], *parts: str) -> None:
    """It raises a ValueError of one line that holds these parts."""
    with pytest.raises(ValueError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text
    assert "got" in text or "of shape" in text


# -- recipes, augmentations and variants --------------------------------------------------------


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, 32.0, np.float64(3), None, *NO_NUMBERS])
def test_epochs_and_batch_sizes_are_whole_and_at_least_one(name: str, value: Any) -> None:
    refused(lambda: Recipe(**{**GOOD, name: value}), f"{name} is a whole number of at least 1")


@pytest.mark.parametrize("name", INTERVALS)
def test_every_number_of_a_recipe_is_finite_and_in_its_interval(name: str) -> None:
    interval, outside = INTERVALS[name]
    for value in (*outside, None, *NO_NUMBERS):
        refused(lambda value=value: Recipe(**{**GOOD, name: value}), f"{name} is a", interval)


def test_no_number_of_a_recipe_goes_unchecked() -> None:
    checked = {"epochs", "batch_size", "augmentation", "optimizer", "schedule", "loss", *INTERVALS}
    assert {field.name for field in fields(Recipe)} == checked
    checked = {"train_size", "data_seed", *SHARES}
    assert {field.name for field in fields(Variant)} == checked


def test_the_ends_of_an_interval_are_in_it_where_the_bracket_says_so() -> None:
    recipe = Recipe(1, 1, 1e-9, 0, 0, 0, 1, budget_exponent=0, budget_floor=1)
    assert (recipe.warmup, recipe.label_smoothing, recipe.budget_floor) == (0.0, 1.0, 1.0)
    assert type(recipe.warmup) is float
    variant = Variant(label_noise=1, imbalance=1, duplicates=0)
    assert (variant.label_noise, variant.imbalance, variant.duplicates) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("value", [-1, 2.5, 2.0, None, *NO_NUMBERS])
def test_a_crop_is_a_whole_number_of_pixels(value: Any) -> None:
    refused(lambda: Augmentation(crop=value), "crop is a whole number of at least 0")


@pytest.mark.parametrize("value", [1, 0, "yes", None, 0.5, np.array([True])])
def test_a_flip_is_true_or_false(value: Any) -> None:
    refused(lambda: Augmentation(flip=value), "flip is True or False")


@pytest.mark.parametrize("value", [None, True, (4, True), {"crop": 4}])
def test_the_augmentation_of_a_recipe_is_one(value: Any) -> None:
    refused(lambda: Recipe(**GOOD, augmentation=value), "augmentation is an Augmentation")


@pytest.mark.parametrize("name", SHARES)
def test_the_shares_of_a_variant_lie_in_their_intervals(name: str) -> None:
    interval, outside = SHARES[name]
    for value in (*outside, *NO_NUMBERS):
        refused(lambda value=value: Variant(**{name: value}), f"{name} is", interval)


@pytest.mark.parametrize(("name", "low"), [("train_size", 1), ("data_seed", 0)])
def test_the_counts_of_a_variant_are_whole(name: str, low: int) -> None:
    for value in (low - 1, 60.0, *NO_NUMBERS):
        refused(lambda value=value: Variant(**{name: value}), f"{name} is a whole number of at")


def test_numbers_of_numpy_become_those_of_python() -> None:
    recipe = Recipe(np.int64(3), np.int32(16), np.float64(0.5), momentum=np.float32(0.5))
    augmentation = Augmentation(np.uint8(2), np.bool_(True))
    variant = Variant(np.int64(9), label_noise=np.float32(0.25), data_seed=np.int8(1))
    for part in (recipe, augmentation, variant):
        kinds = {type(value) for value in vars(part).values()}
        assert kinds <= {int, float, bool, str, Augmentation}
    assert recipe == Recipe(3, 16, 0.5, momentum=0.5)
    assert augmentation == Augmentation(2, True)


def test_a_rate_depends_on_the_budget_between_floor_and_ceiling() -> None:
    falling = Recipe(1, 1, 0.09, budget_exponent=0.9, budget_floor=0.2)
    rising = Recipe(1, 1, 0.1, budget_exponent=-0.5, budget_ceiling=0.4)
    rates = {budget: falling.at_budget(budget).learning_rate for budget in (0.1, 0.2, 0.5, 1)}
    assert rates == pytest.approx({0.1: 0.3831, 0.2: 0.3831, 0.5: 0.1679, 1: 0.09}, abs=1e-4)
    rates = {budget: rising.at_budget(budget).learning_rate for budget in (0.1, 0.4, 1)}
    assert rates == pytest.approx({0.1: 0.05, 0.4: 0.1, 1: 0.1})
    both = Recipe(1, 1, 0.1, budget_exponent=-0.5, budget_ceiling=0.4, exponent_above=-1.0)
    rates = {budget: both.at_budget(budget).learning_rate for budget in (0.1, 0.4, 0.8, 1)}
    assert rates == pytest.approx({0.1: 0.05, 0.4: 0.1, 0.8: 0.2, 1: 0.25})


def test_rates_up_to_the_ceiling_are_the_same_bit_for_bit_whatever_comes_above() -> None:
    for name in ("CIFAR10Small", "CIFAR100Small"):
        own = find_task(name).recipe
        for budget in (0.1, 0.3, 0.5):
            known = 0.1 / (budget / 0.5) ** -0.6
            assert own.at_budget(budget).learning_rate == known
        assert own.at_budget(1.0).learning_rate == pytest.approx(0.1 * 2**1.2)


def test_a_rate_that_grows_beyond_all_numbers_is_refused_with_its_budget() -> None:
    recipe = Recipe(**GOOD, budget_exponent=400.0)
    refused(lambda: recipe.at_budget(0.1), "learning_rate is a number in (0, inf), got inf")
    assert recipe.at_budget(1.0).learning_rate == 0.1


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"recipe": {}}, "recipe is a Recipe, got {}"),
        ({"variant": None}, "variant is a Variant, got None"),
        ({"info": "Digits"}, "info is a DatasetInfo, got 'Digits'"),
        ({"model": ""}, "a model is a spec or a function that makes one, got ''"),
        ({"model": 3}, "a model is a spec or a function that makes one, got 3"),
        ({"model": "resnet9"}, "resnet9 needs images, this task has features of shape (64,)"),
    ],
)
def test_the_parts_of_a_task_are_what_they_should_be(parts: dict[str, Any], sentence: str) -> None:
    good = {"info": DIGITS, "model": "mlp", "recipe": Recipe(**GOOD)}
    refused(lambda: Task(**{**good, **parts}), sentence)


# -- the environment ----------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, ...]] = {
    "epochs": (2.5, 0, -1, True, 32.0, "3", math.nan),
    "batch_size": (32.0, 0, -1, math.inf),
    "learning_rate": (0, -1.0, math.nan, math.inf, 10**400, "0.1", True),
    "budget": (0, -0.5, 1.1, math.nan, None, True, "0.5"),
    "averaging": (1, -0.1, math.nan, False),
    "label_noise": (-0.1, 1.1, math.nan, True),
    "imbalance": (0, 1.1, math.inf),
    "duplicates": (1, -0.1),
    "train_size": (0, -1, 60.0, True, 10**6),
    "data_seed": (-1, 0.0, None, True),
    "model": ("", " ", 3, "mlp(width=0)", "mlp(width=2.5)", "mlp(depth=-1)"),
    "compile": (1, "yes", None),
    "download": (0, None),
    "device": (None, 0),
    "data_dir": (3,),
    "task": (3, None, ""),
    "reward": ("", None),
    "observe": ("none", None),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("make", [partial(gym.make, ID), Settings, DynPruneVectorEnv])
def test_a_setting_is_refused_before_anything_is_loaded(
    name: str, make: Callable[..., Any]
) -> None:
    if name == "task" and make not in (Settings, DynPruneVectorEnv):
        return  # the id says it
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=r"got|called") as caught:
            make(**{name: value})
        assert "\n" not in str(caught.value)


def test_settings_take_numbers_of_numpy_and_keep_those_of_python() -> None:
    given = {
        "budget": np.float32(0.5),
        "epochs": np.int64(2),
        "batch_size": np.uint8(16),
        "learning_rate": np.float64(0.1),
        "train_size": np.int32(40),
        "label_noise": np.float16(0.25),
        "data_seed": np.int64(1),
        "compile": np.bool_(False),
        "model": np.str_("mlp(width=4)"),
    }
    settings = Settings(**given)
    assert settings == Settings(**{name: value.item() for name, value in given.items()})
    assert {type(value).__module__ for value in settings.as_dict().values()} == {"builtins"}
    env = gym.make(ID, **given).unwrapped
    env.reset(seed=0)
    assert len(env.dataset.train) == 40


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "2", None])
def test_the_number_of_runs_side_by_side_is_whole(value: Any) -> None:
    refused(lambda: DynPruneVectorEnv(num_envs=value), "num_envs is a whole number of at least 1")


@pytest.mark.parametrize("seed", [-1, 1.5, True, "12", [0], [0, 1, 2], [0, -1], [0, 0.5]])
def test_the_seeds_of_rows_are_whole_and_one_each(seed: Any) -> None:
    env = DynPruneVectorEnv(num_envs=2, train_size=40, epochs=1)
    refused(lambda: env.reset(seed=seed), "seed")


def test_the_seeds_of_rows_may_be_numbers_of_numpy() -> None:
    envs = [DynPruneVectorEnv(num_envs=2, train_size=40, epochs=1) for _ in range(3)]
    for env, seed in zip(envs, (3, np.int64(3), np.array([3, 4])), strict=True):
        env.reset(seed=seed)
    assert len({tuple(env.trainer.seeds) for env in envs}) == 1


# -- seeds of runs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        ([], "seeds holds at least one"),
        ((), "seeds holds at least one"),
        ([-1], "a seed is a whole number of at least 0, got -1"),
        ([0.0], "a seed is a whole number of at least 0, got 0.0"),
        ([0, 1.5], "a seed is a whole number of at least 0, got 1.5"),
        ([True], "a seed is a whole number of at least 0, got True"),
        ([0, 1, 0], "seeds holds none twice, got [0, 1, 0]"),
        ([1, np.int64(1)], "seeds holds none twice, got [1, 1]"),
        (3, "seeds is a sequence of whole numbers, got 3"),
        ("012", "seeds is a sequence of whole numbers, got '012'"),
    ],
)
def test_the_seeds_of_runs_are_checked_before_anything_is_played(seeds: Any, sentence: str) -> None:
    agent = dynprune_agents.make("dynamic_random")
    refused(lambda: run_episodes(ID, agent, seeds), sentence)
    refused(lambda: RunGroup(ID, {"budget": 0.5}, "dynamic_random", seeds), sentence)


def test_runs_whose_arguments_are_numbers_of_numpy_have_the_same_names() -> None:
    agent = dynprune_agents.make("dynamic_random")
    kwargs = {"train_size": np.int64(40), "epochs": np.int32(1), "budget": np.float64(0.5)}
    results = run_episodes(ID, agent, np.arange(2), env_kwargs=kwargs, device="cpu")
    same = RunConfig(ID, {"train_size": 40, "epochs": 1, "budget": 0.5}, "dynamic_random", seed=1)
    assert results[1].config == same
    assert results[1].config.key == same.key
    assert json.loads(json.dumps(results[1].replica_seeds)) == [0, 1]
