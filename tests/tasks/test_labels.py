"""Labels that are no classes: many forms are taken, what does not fit meets one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, play, random_masks
from helpers.other_losses import (
    OWN,
    TASKS,
    diabetes,
    every_task,
    linear,
    properties,
    recipe,
    registered,
    unwrapped,
)
from torch import nn
from torch.utils.data import Dataset

from dynprune_env import Settings, own_task
from dynprune_env.tasks.datasets import DIGITS
from dynprune_env.tasks.registry import Task
from dynprune_env.tasks.variants import Variant
from dynprune_env.training.module_learner import ModuleLearner
from dynprune_env.training.stacked_learner import StackedLearner


@pytest.fixture(params=sorted(TASKS))
def other(request: pytest.FixtureRequest) -> Iterator[str]:
    """An environment of each kind."""
    with registered(TASKS[request.param]) as env:
        yield env


@pytest.mark.parametrize("kind", [bool, int, np.uint8, np.float64, torch.tensor])
def test_several_labels_come_in_many_forms(kind: Any) -> None:
    (x, y), test = properties()
    given = torch.tensor(y) if kind is torch.tensor else y.astype(kind)
    task = own_task((x, given), test, "mlp", recipe(loss="bce"))
    labels = task.info.read(None, False).train.labels
    assert labels.dtype == torch.float32
    assert labels.tolist() == y.tolist()
    assert (task.info.labels, task.info.outputs, task.info.num_classes) == ("several labels", 3, 2)


class Rows(Dataset):
    """A map-style data set of rows, with `targets` or without."""

    def __init__(self, pair: tuple[Any, Any], targets: bool):
        self.x, self.y = pair
        if targets:
            self.targets = self.y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.x[i], self.y[i]


@every_task
@pytest.mark.parametrize("targets", [False, True])
def test_map_style_and_streamed_data_give_the_run_of_the_arrays(kind: str, targets: bool) -> None:
    train, test = properties() if kind == "multi_label" else diabetes()
    made = recipe(loss="bce" if kind == "multi_label" else "mse")
    model = partial(linear, train[0].shape[1], 3 if kind == "multi_label" else 1)
    runs = []
    for stream in (None, False, True):
        data = (train, test) if stream is None else (Rows(train, targets), Rows(test, targets))
        task = partial(own_task, *data, model, made, stream=bool(stream))
        with registered(task) as name:
            env = unwrapped(name, observe="all")
            runs.append([*play(env, random_masks(env, 3), seed=0), env.evaluate("test")])
    assert_same(runs[1], runs[0])
    assert_same(runs[2], runs[0])


def test_subsets_and_duplicates_are_of_every_kind_of_label(other: str) -> None:
    env = unwrapped(other, train_size=60, duplicates=0.5)
    play(env, [np.ones(60)], seed=0)
    data = env.dataset
    copies = np.flatnonzero(data.duplicate_of >= 0)
    assert len(copies) == 30
    labels = data.train.labels
    assert torch.equal(labels[copies], labels[data.duplicate_of[copies]])
    assert data.corrupted.shape == (60,)
    assert not data.corrupted.any()


@pytest.mark.parametrize("change", [{"label_noise": 0.1}, {"imbalance": 0.5}])
def test_what_is_done_to_classes_is_refused_where_there_are_none(
    change: dict[str, float], other: str
) -> None:
    for make in (partial(gym.make, other), partial(Settings, task="Other")):
        with pytest.raises(ValueError, match="are for tasks of one class a sample, got"):
            make(**change)
    with pytest.raises(ValueError, match="are for tasks of one class a sample, got"):
        own_task(*properties(), "mlp", recipe(loss="bce"), variant=Variant(**change))


@pytest.mark.parametrize("kind", ["stacked", "numba"])
def test_learners_with_a_step_of_their_own_refuse_other_losses(kind: str) -> None:
    with registered(lambda: own_task(*properties(), "mlp", recipe(loss="bce", optimizer="sgd"))):
        with pytest.raises(ValueError, match=f"learner='{kind}' trains with optimizer='sgd' and"):
            Settings(task="Other", learner=kind)
        env = unwrapped("DynPrune-Other-v0")
        env.reset(seed=0)
        assert isinstance(env.trainer.learner, ModuleLearner)
        with pytest.raises(ValueError, match="the recipe has optimizer='sgd' and loss='bce'"):
            StackedLearner(
                partial(nn.Linear, 64, 3), env.dataset, env.settings.recipe, 1, torch.device("cpu")
            )


X = np.zeros((20, 5), dtype=np.float32)
Y = np.arange(20) % 2
BOTH = np.stack([Y, 1 - Y], 1)


def given(labels: Any, loss: str, test: Any = None, **kwargs: Any) -> Callable[[], Task]:
    test = labels if test is None else test
    return partial(own_task, (X, labels), (X, test), "mlp", recipe(loss=loss), **kwargs)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (given(Y, "bce"), "labels of loss='bce' are (n, k), each 0 or 1, got (20,) torch.int64"),
        (given(BOTH * 2, "bce"), "are (n, k), each 0 or 1, got (20, 2)"),
        (given(BOTH * np.nan, "bce"), "are (n, k), each 0 or 1, got (20, 2)"),
        (given(BOTH[:, :, None], "bce"), "are (n, k), each 0 or 1, got (20, 2, 1)"),
        (given(BOTH[:, :0], "bce"), "have at least one column, got (20, 0)"),
        (given(BOTH[:, :, None], "mse"), "are (n,) or (n, k) real numbers, got (20, 2, 1)"),
        (given(BOTH * 1j, "mse"), "are (n,) or (n, k) real numbers, got (20, 2)"),
        (given(np.full(20, np.inf), "mse"), "labels of loss='mse' are finite as float32"),
        (given(["a"] * 20, "mse"), "got list of str"),
        (given(Y, "mse", BOTH), "of one kind and shape, got numbers (n,) and numbers (n, 2)"),
        (given(BOTH, "bce", BOTH[:, :1]), "got several labels (n, 2) and several labels (n, 1)"),
        (given(Y, OWN + "absolute", BOTH), "got classes (n,) and several labels (n, 2)"),
        (given(BOTH, "bce", num_classes=2), "num_classes is of classes, got 2 for several labels"),
        (given(np.eye(3)[Y] + np.eye(3)[2], "cross_entropy"), "for a recipe with loss='bce'"),
        (given(Y + 0.5, "cross_entropy"), "numbers to predict are for a recipe with loss='mse'"),
        (
            lambda: Task(DIGITS, "mlp", recipe(loss="mse")),
            "loss='mse' is of labels that are numbers, got classes in Digits",
        ),
        (lambda: recipe(loss="hinge"), "no loss is called 'hinge'; there are cross_entropy, bce"),
        (lambda: recipe(loss=OWN + "gone"), "cannot load the loss 'helpers.other_losses:gone'"),
        (lambda: recipe(loss=OWN + "RECIPE"), "is a function of outputs and labels, got Recipe("),
        (lambda: recipe(loss=None), "loss is a text, got None"),
        (
            lambda: recipe(loss="mse", label_smoothing=0.1),
            "label_smoothing is of loss='cross_entropy', got 0.1 with loss='mse'",
        ),
    ],
)
def test_labels_and_losses_that_do_not_fit_meet_one_sentence(
    make: Callable[[], Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            partial(own_task, *properties(), partial(nn.Linear, 64, 2), recipe(loss="bce")),
            "expected logits (2, 3): one for each label",
        ),
        (
            partial(own_task, *diabetes(), partial(nn.Linear, 10, 2), recipe(loss="mse")),
            "expected outputs (2, 1): one for each number",
        ),
        (
            lambda: own_task(
                *((x, 70 * y + 150) for x, y in diabetes()),
                partial(linear, 10, 1),
                recipe(loss="mse"),
            ),
            "give (labels - mean) / std",
        ),
    ],
)
def test_what_does_not_fit_the_labels_is_found_at_the_first_reset(
    make: Callable[[], Task], sentence: str
) -> None:
    with registered(make) as name, pytest.raises(ValueError, match=re.escape(sentence)):
        unwrapped(name).reset(seed=0)
