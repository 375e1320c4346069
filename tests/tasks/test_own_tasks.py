"""Tasks of one's own: in the environment, in the command line, and streamed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils import env_checker
from helpers import own
from helpers.episodes import assert_same, play, random_masks
from helpers.own import RECIPE, Bag, Pictures, cnn, tokens
from torch import nn
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

import dynprune_agents
from dynprune_agents.cli import app as cli
from dynprune_env import Augmentation, Task, own_task, register_task, run_episodes
from dynprune_env.benchmark.results import load_results
from dynprune_env.tasks import registry as tasks
from dynprune_env.training.loading import StreamTable

ID = "DynPrune-Mine-v0"


@pytest.fixture
def mine() -> Iterator[Callable[[Callable[[], Task]], None]]:
    """Registers a task as DynPrune-Mine-v0 for one test."""
    yield partial(register_task, "Mine")
    forget("Mine")


@pytest.fixture(autouse=True)
def _no_own_words() -> Iterator[None]:
    """Leaves no task behind for tests of all tasks."""
    yield
    forget("OwnWords")


@pytest.fixture
def unimported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `--import helpers.own` import it anew, for one test."""
    monkeypatch.delitem(sys.modules, "helpers.own")


def forget(name: str) -> None:
    tasks._OWN.pop(name, None)
    tasks.TASKS.pop(name, None)
    gym.registry.pop(f"DynPrune-{name}-v0", None)


forget("OwnWords")  # registered by the import above; tests of all tasks run in this process too


def pictures(jitter: bool = False, **kwargs: Any) -> Task:
    recipe = kwargs.pop("recipe", RECIPE)
    return own_task(Pictures(130, jitter), Pictures(24), cnn, recipe, **{"val_size": 30, **kwargs})


def words(**kwargs: Any) -> Task:
    return own_task(tokens(200, 0), tokens(50, 1), Bag, RECIPE, **kwargs)


# -- the game -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make_task", [words, pictures])
def test_gymnasium_finds_nothing_in_a_task_of_ones_own(
    make_task: Callable[[], Task], mine: Callable[[Any], None]
) -> None:
    mine(make_task)
    env = gym.make(ID)
    env_checker.check_env(env.unwrapped, skip_render_check=True)
    assert gym.make(
        env.spec.to_json() and gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    )


def test_the_task_is_made_at_its_first_use_and_once(mine: Callable[[Any], None]) -> None:
    made = []

    def make_task() -> Task:
        made.append(1)
        return words()

    mine(make_task)
    assert not made
    for _ in range(2):
        gym.make(ID, train_size=40).reset(seed=0)
    gym.make_vec(ID, num_envs=2).reset(seed=0)
    assert made == [1]
    mine(words)  # registered anew, as in a notebook
    gym.make(ID).reset(seed=0)
    assert made == [1]


def test_token_ids_reach_the_model_as_integers_and_an_agent_learns(
    mine: Callable[[Any], None],
) -> None:
    mine(words)
    agent = dynprune_agents.make("dynamic_random")
    kwargs = {"budget": 0.5, "epochs": 15, "learning_rate": 0.5}
    (result,) = run_episodes(ID, agent, [0], env_kwargs=kwargs)
    assert result.test_accuracy > 0.8
    assert result.visits == round(0.5 * 15 * 180)


@pytest.mark.parametrize("make_task", [words, pictures])
def test_variants_act_on_a_task_of_ones_own(
    make_task: Callable[[], Task], mine: Callable[[Any], None]
) -> None:
    mine(make_task)
    env = gym.make(ID, label_noise=0.3, train_size=60, duplicates=0.2, imbalance=0.5).unwrapped
    env.reset(seed=0)
    assert len(env.dataset.train) == 60
    assert env.dataset.redrawn.sum() == 18
    assert (env.dataset.duplicate_of >= 0).sum() == 12
    assert env.dataset.val.inputs.dtype == env.dataset.train.inputs.dtype


@pytest.mark.parametrize("make_task", [words, partial(pictures, stream=True, workers=1)])
@pytest.mark.parametrize("name", ["el2n(nets=1)", "molpeg", "rho_loss", "kakurenbo"])
def test_rules_that_score_play_on_a_task_of_ones_own(
    name: str, make_task: Callable[[], Task], mine: Callable[[Any], None]
) -> None:
    mine(make_task)
    agent = dynprune_agents.make(name)
    (result,) = run_episodes(ID, agent, [0], env_kwargs={"budget": 0.5})
    assert result.visits > 0


def test_arrays_pictures_and_data_sets_give_the_same_task() -> None:
    import PIL.Image

    class Drawn:
        def __init__(self, data: Pictures):
            self.data = data

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, i: int) -> tuple[Any, Any]:
            x, y = self.data[i]
            return PIL.Image.fromarray(x.permute(1, 2, 0).numpy()), np.int64(y)

    train, test = Pictures(40), Pictures(8)
    forms = [
        (train, test),
        ((train.pixels, train.labels), (test.pixels, test.labels)),
        ((train.pixels.numpy(), train.labels.tolist()), (test.pixels.numpy(), test.labels.int())),
        (TensorDataset(train.pixels, train.labels), TensorDataset(test.pixels, test.labels)),
        (Drawn(train), Drawn(test)),
    ]
    made = [own_task(*form, cnn, RECIPE) for form in forms]
    for task in made:
        pool = task.info.read(None, False)
        assert pool.train.inputs.equal(train.pixels)
        assert pool.train.labels.equal(train.labels)
        assert pool.test.inputs.equal(test.pixels)
        assert replace(task.info, read=made[0].info.read) == made[0].info
    assert made[0].info.num_val == 4
    assert made[0].info.class_size == 9


def test_a_data_set_of_torchvision_becomes_a_task(mine: Callable[[Any], None]) -> None:
    from torchvision import transforms
    from torchvision.datasets import FakeData

    for transform, kind in ((None, torch.uint8), (transforms.ToTensor(), torch.float32)):
        train, test = (FakeData(n, (3, 8, 8), 4, transform, random_offset=n) for n in (40, 8))
        task = own_task(train, test, cnn, RECIPE, num_classes=4)
        assert task.info.input_shape == (3, 8, 8)
        assert task.info.read(None, False).train.inputs.dtype == kind
        mine(lambda task=task: task)
        env = gym.make(ID, epochs=1).unwrapped
        env.reset(seed=0)
        env.step(np.ones(36, dtype=bool))
        assert env.evaluate("test").loss > 0


# -- the command line ---------------------------------------------------------------------------


def dynprune(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_envs_lists_a_task_that_was_imported(unimported: None) -> None:
    assert "DynPrune-OwnWords-v0" in dynprune("--import", "helpers.own", "envs")


def test_bench_plays_an_imported_task_in_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unimported: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(own.__file__).parents[1]), prepend=":")
    text = dynprune(
        *("--import", "helpers.own", "bench", "--env", "DynPrune-OwnWords-v0", "--agents", "ucb"),
        *("--budgets", "0.5", "--seeds", "2", "--jobs", "2"),
    )
    results = list(load_results([Path("results")]))
    assert {result.config.env for result in results} == {"DynPrune-OwnWords-v0"}
    assert len(results) == 4
    assert "ucb" in text


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ValueError, match="cannot import 'no_such_module'"):
        CliRunner().invoke(cli.app, ["--import", "no_such_module", "envs"], catch_exceptions=False)


# -- mistakes -----------------------------------------------------------------------------------

X, Y = torch.zeros(20, 5), torch.arange(20) % 2


def simple(train: Any = (X, Y), test: Any = (X, Y), **kwargs: Any) -> Task:
    return own_task(train, test, partial(nn.Linear, 5, 2), RECIPE, **kwargs)


class Ragged(Pictures):
    def __getitem__(self, i: int) -> tuple[Any, int]:
        x, y = super().__getitem__(i)
        return x[:, : 8 - i % 2], y


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "lengths": (lambda: simple((X, Y[:19])), "train: there are 20 inputs, but 19 labels"),
    "test alike": (
        lambda: simple(test=(X[:, :4], Y)),
        "the inputs of train and test have one shape and type, got (5,) torch.float32 and (4,)",
    ),
    "label range": (
        lambda: simple((X, Y * 7), num_classes=5),
        "train: labels are in [0, 5), got values from 0 to 7",
    ),
    "negative label": (
        lambda: simple((X, Y - 1)),
        "train: labels are in [0, 2), got values from -1",
    ),
    "float labels": (lambda: simple((X, Y.float())), "train: labels are (n,) integers"),
    "one-hot labels": (
        lambda: simple(test=(X, torch.eye(20).long())),
        "test: labels are (n,) integers, one class per sample, got (20, 20)",
    ),
    "one class": (lambda: simple((X, Y * 0), (X, Y * 0)), "at least 2 classes"),
    "not finite": (lambda: simple((X / 0, Y)), "train: inputs are finite"),
    "no axis": (lambda: simple((Y, Y)), "train: inputs are (n, ...), at least two axes, got (20,)"),
    "channels last": (
        lambda: simple((torch.zeros(20, 8, 8, 3).byte(), Y)),
        "train: images are (n, C, H, W), channels first, got (20, 8, 8, 3)",
    ),
    "words": (lambda: simple((np.array(["a"] * 20), Y)), "train: inputs are tensors, arrays"),
    "ragged": (
        lambda: simple(Ragged(4)),
        "all inputs have one shape and type, got (3, 8, 8) uint8",
    ),
    "no data set": (lambda: simple(iter([])), "data are (inputs, labels), or a map-style data set"),
    "empty": (lambda: simple(TensorDataset(X[:0], Y[:0])), "train: the data set is empty"),
    "no pairs": (lambda: simple(TensorDataset(X)), "a sample of the data set is (input, label)"),
    "too small": (
        lambda: simple((X[:1], Y[:1])),
        "1 train samples cannot be split into train and val with val_size=1",
    ),
    "val size": (lambda: simple(val_size=20), "20 train samples cannot be split"),
    "augmentation": (
        lambda: own_task(
            (X, Y), (X, Y), cnn, replace(RECIPE, augmentation=Augmentation(flip=True))
        ),
        "mean, std and augmentation are for (n, C, H, W) uint8 images, inputs are (n, 5)",
    ),
    "stream in memory": (lambda: simple(stream=True), "stream=True reads map-style data sets"),
    "name": (lambda: register_task("my task", words), "made of letters, digits and underscores"),
    "taken name": (lambda: register_task("Digits", words), "Digits is a task of dynprune"),
    "no function": (
        lambda: register_task("Mine", words()),  # type: ignore[arg-type]
        "make_task is a function that makes a Task",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_meets_one_clear_sentence(mistake: str) -> None:
    make_it, sentence = MISTAKES[mistake]
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        make_it()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make_task", "sentence"),
    [
        (
            partial(own_task, (X, Y), (X, Y), partial(nn.Linear, 5, 3), RECIPE),
            "expected logits (2, 2)",
        ),
        (
            partial(own_task, (X, Y), (X, Y), partial(nn.Linear, 4, 2), RECIPE),
            "the model of Mine fails",
        ),
        (
            partial(own_task, tokens(9, 0), tokens(9, 0), "mlp(width=4)", RECIPE),
            "fails on inputs (2, 6) torch.int64",
        ),
        (partial(own_task, (X, Y), (X, Y), partial(nn.LSTM, 5, 2), RECIPE), "gives tuple for"),
        (lambda: "words", "make_task of Mine gives a Task, got str"),
    ],
)
def test_a_model_that_does_not_fit_is_found_at_the_first_reset(
    make_task: Callable[[], Any], sentence: str, mine: Callable[[Any], None]
) -> None:
    mine(make_task)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        gym.make(ID).reset(seed=0)


# -- data that are read when they are needed ----------------------------------------------------


def episode(task: Task, mine: Callable[[Any], None], **settings: Any) -> list[Any]:
    mine(lambda: task)
    env = gym.make(ID, budget=0.8, observe="all", precision="fp32", **settings).unwrapped
    steps = play(env, random_masks(env, 3), seed=4)
    return [*steps, env.evaluate("test"), env.evaluate("train")]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augmented", [False, True])
def test_a_streamed_run_equals_the_resident_one_bit_for_bit(
    workers: int, augmented: bool, mine: Callable[[Any], None]
) -> None:
    recipe = replace(RECIPE, augmentation=Augmentation(2, True)) if augmented else RECIPE
    changes = {"label_noise": 0.2, "train_size": 70}
    resident = episode(pictures(recipe=recipe), mine, **changes)
    streamed = episode(pictures(recipe=recipe, stream=True, workers=workers), mine, **changes)
    assert_same(streamed, resident)


def test_a_streamed_plain_net_equals_the_stacked_one_up_to_rounding(
    mine: Callable[[Any], None],
) -> None:
    data = TensorDataset(
        torch.randn(90, 5, generator=torch.Generator().manual_seed(0)), (torch.arange(90) % 3)
    )
    made = [own_task(data, data, "mlp(width=8)", RECIPE, stream=stream) for stream in (False, True)]
    resident, streamed = (episode(task, mine) for task in made)
    assert_same(streamed, resident, 1e-4)


def test_random_transforms_depend_on_the_run_the_epoch_and_the_sample_alone(
    mine: Callable[[Any], None],
) -> None:
    import random

    runs = {}
    for workers in (0, 1, 2):
        states = random.getstate(), torch.random.get_rng_state()
        runs[workers] = episode(pictures(jitter=True, stream=True, workers=workers), mine)
        if workers == 0:
            assert random.getstate() == states[0]
            assert torch.random.get_rng_state().equal(states[1])
    assert_same(runs[1], runs[0])
    assert_same(runs[2], runs[0])

    pool = pictures(jitter=True, stream=True).info.read(None, False)
    table = StreamTable(pool.train.inputs, pictures().info)  # type: ignore[arg-type]
    ids = torch.arange(20)
    first, again, other = (torch.cat(list(table.batches(ids, 6, seed=s))) for s in (1, 1, 2))
    reversed_ = torch.cat(list(table.batches(ids.flip(0), 7, seed=1)))
    assert first.equal(again)
    assert first.equal(reversed_.flip(0))
    assert not first.equal(other)


def test_two_streamed_replicas_equal_two_runs(mine: Callable[[Any], None]) -> None:
    mine(lambda: pictures(jitter=True, stream=True))
    agent = dynprune_agents.make("ucb")
    together = run_episodes(ID, agent, [0, 1], env_kwargs={"budget": 0.5})
    for seed, result in enumerate(together):
        (alone,) = run_episodes(ID, agent, [seed], env_kwargs={"budget": 0.5})
        assert alone.history["val_loss"] == result.history["val_loss"]


def test_labels_come_from_targets_unless_a_transform_changes_them() -> None:
    class Targets(Pictures):
        reads = 0

        def __init__(self, n: int, change: int):
            super().__init__(n)
            self.targets, self.change = self.labels.tolist(), change

        def __getitem__(self, i: int) -> tuple[Any, int]:
            Targets.reads += 1
            x, y = super().__getitem__(i)
            return x, (y + self.change) % 4

    for change in (0, 1):
        Targets.reads = 0
        task = own_task(
            Targets(100, change),
            Pictures(8),
            "mlp",
            RECIPE,
            stream=True,
            mean=(0.5,) * 3,
            std=(0.2,) * 3,
        )
        labels = task.info.read(None, False).train.labels
        assert labels.tolist() == [(i + change) % 4 for i in range(100)]
        assert (Targets.reads < 10) == (change == 0)
