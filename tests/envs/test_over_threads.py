"""The same seed gives the same run in every thread, and while other threads draw."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, play, random_masks
from helpers.own import Pictures, cnn
from torch import Tensor, nn

import dynprune_agents
from dynprune_env import Recipe, Result, own_task, run_episodes
from dynprune_env.tasks.registry import TASKS

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.1)


class Drawing(nn.Module):
    """A user's model that draws its weights, in training and in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.out = nn.Flatten(), nn.Linear(192, 4)
        self.more = nn.Parameter(torch.randn(192) + torch.rand_like(torch.ones(192)))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn_like(x.flatten(1)) + torch.randint(3, (192,))
        return self.out(self.flat(x) * self.more + 0.1 * noise)


class Torn(Pictures):
    """A data set whose transforms draw from torch alone."""

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.pixels[i].roll(int(torch.randint(5, ())), -1), int(self.labels[i])


def seeding() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Dropout(0.1))


GAMES: dict[str, Callable[[], Any]] = {
    "Digits": lambda: TASKS["Digits"],
    "Clutter": lambda: TASKS["Clutter"],
    "dropout": lambda: own_task(Torn(80), Torn(40), cnn, RECIPE),
    "drawing": lambda: own_task(Torn(80), Torn(40), Drawing, RECIPE, stream=True),
}


@pytest.fixture(params=GAMES)
def game(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(TASKS, "Shared", GAMES[request.param]())
    size = 48 if request.param in ("Digits", "Clutter") else None
    return {"task": "Shared", "epochs": 2, "train_size": size}


def played(game: dict[str, Any], seed: int) -> list[Any]:
    env = make(**game)
    return [*play(env, random_masks(env, 2), seed=seed), *env.evaluate("test")]


@pytest.fixture
def foreign() -> Iterator[None]:
    """A thread that draws from torch's default generator without a pause."""
    over, drawn = threading.Event(), threading.Event()

    def draw() -> None:
        while not over.is_set():
            torch.rand(3)
            torch.randn(20)
            drawn.set()

    thread = threading.Thread(target=draw)
    thread.start()
    drawn.wait()
    yield
    over.set()
    thread.join()


def test_threads_of_ours_play_the_same_runs_as_one_alone(game: dict[str, Any]) -> None:
    expected = {seed: played(game, seed) for seed in range(4)}
    torch.manual_seed(11), np.random.seed(12), random.seed(13)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: played(game, seed % 4), range(12)))
    for seed, run in enumerate(found):
        assert_same(run, expected[seed % 4])
    assert torch.equal(torch.get_rng_state(), before[0]), "the caller's generator was moved"
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_foreign_thread_that_draws_changes_no_run(
    game: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    expected = [played(game, seed) for seed in range(3)]
    request.getfixturevalue("foreign")
    assert_same([played(game, seed) for seed in range(3)], expected)


@pytest.mark.parametrize("name", ["Digits", "Clutter"])
def test_what_a_foreign_thread_draws_is_not_changed_by_the_runs_of_our_models(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.stack([torch.rand(2) for _ in range(300)])
    torch.manual_seed(5)
    over = threading.Event()

    def runs() -> None:
        for seed in range(50):
            if over.is_set():
                return
            env = make(task=name)
            play(env, random_masks(env, 1), seed=seed)

    thread = threading.Thread(target=runs)
    thread.start()
    drawn = torch.stack([(torch.rand(2), over.wait(0.001))[0] for _ in range(300)])
    over.set()
    thread.join()
    assert torch.equal(drawn, expected)


def test_a_model_whose_function_seeds_torch_is_made_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(TASKS, "Shared", own_task(Torn(80), Torn(40), seeding, RECIPE))
    torch.manual_seed(4)  # the very seed: a change of it could not be noticed
    torch.rand(3)
    before = torch.get_rng_state()
    env = make(task="Shared", train_size=None)
    env.reset(seed=0)
    found = env.episode(0).probe.models()[0][1].weight
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        assert torch.equal(found, seeding()[1].weight)


def test_agents_in_threads_give_the_results_of_one_alone(foreign: None) -> None:
    def result(seed: int) -> Result:
        agent = dynprune_agents.make("ucb")
        kwargs = {"train_size": 48, "epochs": 3}
        return run_episodes("DynPrune-Digits-v0", agent, [seed], env_kwargs=kwargs)[0]

    expected = [result(seed) for seed in range(2)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(result, [0, 1, 0, 1]))
    for one, other in zip(found, [*expected, *expected], strict=True):
        assert one.selections == other.selections
        assert one.history["val_loss"] == other.history["val_loss"]
        assert one.test_loss == other.test_loss
