"""The environment is not alone in its process: what others switch in torch changes no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, make_vector, play, random_masks
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import dynprune_agents
from dynprune_env import PruningSampler, Recipe, own_task
from dynprune_env.tasks.registry import TASKS


class Own(nn.Module):
    """It draws, and makes tensors that name neither type nor device."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 8)
        self.scale = nn.Parameter(torch.rand(8))
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.dropout(self.hidden(x).relu() * self.scale, 0.3, self.training)
        return self.out(h + torch.rand(8) * torch.tensor(0.1))


def own() -> Any:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 6)).astype(np.float32), np.arange(80) % 2
    return own_task((x, y), (x, y), Own, Recipe(epochs=2, batch_size=16, learning_rate=0.1))


@contextmanager
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        assert torch.get_default_dtype() is torch.float64, "the caller's default was not kept"
        torch.set_default_dtype(before)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")  # stands for a GPU
    try:
        yield
    finally:
        assert torch.get_default_device().type == "meta"
        torch.set_default_device(None)


SWITCHES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": float64,
    "default_device": default_device,
    "device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
GAMES = {
    "numba": {"learner": "numba"},
    "stacked": {"learner": "stacked"},
    "modules": {"learner": "modules", "averaging": 0.9},
    "clutter": {"task": "Clutter"},
    "own": {"task": "OwnDrawing", "train_size": None, "epochs": 2},
}


@pytest.fixture(autouse=True)
def _own_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "OwnDrawing", own())


def whole_run(settings: dict[str, Any]) -> list[Any]:
    """All that an environment gives: steps, an evaluation, probes, a fork's and a loaded state."""
    env = make(**settings, observe="all")
    found: list[Any] = play(env, random_masks(env, 1), seed=3)
    fork, mask = env.fork(), random_masks(env, 1, seed=1)[0]
    probe, runs = env.episode(1).probe, env.scoring_runs(1)
    first = next(runs.run(0, 1))
    models = [dict(model.state_dict()) for model in probe.models()]
    found += [env.step(mask), fork.step(mask), *env.evaluate("test"), probe.losses(), first]
    return [*found, models, runs.values()._asdict(), runs.gradient_norms()]


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("game", GAMES)
def test_what_the_caller_has_switched_changes_no_run(game: str, switch: str) -> None:
    expected = whole_run(GAMES[game])
    with SWITCHES[switch]():
        found = whole_run(GAMES[game])
    assert_same(found, expected)


@pytest.mark.parametrize("game", GAMES)
def test_a_run_begun_in_inference_mode_goes_on_outside_and_back(game: str) -> None:
    env, other = make(**GAMES[game]), make(**GAMES[game])
    masks = random_masks(env, 2)
    with torch.inference_mode():
        env.reset(seed=1)
    first = env.step(masks[0])
    with torch.inference_mode():
        second = env.step(masks[1])
    assert_same([first, second], play(other, masks, seed=1)[1:])


@pytest.mark.parametrize("switch", SWITCHES)
def test_data_first_read_under_a_switch_serve_later_runs(
    switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = play(make(task="OwnDrawing", train_size=None), np.ones((2, 72), bool), seed=0)
    with SWITCHES[switch]():
        monkeypatch.setitem(TASKS, "OwnDrawing", own())
        make(task="OwnDrawing", train_size=None).reset(seed=0)
    found = play(make(task="OwnDrawing", train_size=None), np.ones((2, 72), bool), seed=0)
    assert_same(found, expected)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_sampler_chooses_the_same_under_every_switch(switch: str) -> None:
    def chosen() -> list[list[int]]:
        sampler = PruningSampler(100, dynprune_agents.make("ucb"), epochs=3, budget=0.5, seed=2)
        found = [list(sampler)]
        losses = np.linspace(0, 3, 100, dtype=np.float32)
        sampler.record(found[0], losses=losses[found[0]])
        sampler.select()
        return [*found, list(sampler)]

    expected = chosen()
    with SWITCHES[switch]():
        assert chosen() == expected


def test_dropout_within_a_checkpoint_is_repeated_for_its_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Saving(Own):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=False)

    def task(model: type[nn.Module]) -> Any:
        x, y = np.ones((80, 6), np.float32), np.arange(80) % 2
        recipe = Recipe(epochs=2, batch_size=80, learning_rate=0.1)
        return own_task((x, y), (x, y), model, recipe)

    def played(model: type[nn.Module]) -> list[Any]:
        monkeypatch.setitem(TASKS, "OwnDrawing", task(model))
        env = make(task="OwnDrawing", train_size=None, batch_size=80)
        return play(env, np.ones((2, 72), bool), seed=0)

    assert_same(played(Saving), played(Own))


NUMBERS = {
    "int64": np.int64,
    "int32": np.int32,
    "uint8": np.uint8,
    "0-d array": np.array,
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_whole_numbers_of_numpy_are_taken_where_pythons_are(kind: str) -> None:
    of = NUMBERS[kind]
    ones = np.ones(48, dtype=bool)
    expected = make(epochs=3, data_seed=1)
    env = make(epochs=of(3), train_size=of(48), batch_size=of(16), data_seed=of(1), threads=of(1))
    assert_same(play(env, [ones], seed=of(7)), play(expected, [ones], seed=7))
    assert env.episode(of(5)) == expected.episode(5)
    assert_same(next(env.scoring_runs(of(5)).run(0, 1)), next(expected.scoring_runs(5).run(0, 1)))
    envs = make_vector(of(2), twins=of(2))
    assert_same(envs.reset(seed=of(4))[0], make_vector(2, twins=2).reset(seed=4)[0])
    assert envs.episode([of(1), of(2)]).seeds == (1, 2)
    assert envs.episode(np.array([1, 2])).seeds == (1, 2)
    sampler = PruningSampler(
        of(50), dynprune_agents.make("random_control"), epochs=of(4), num_classes=of(3), seed=of(9)
    )
    assert sampler.seed == 9 and len(sampler) > 0


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array])
def test_shares_of_numpy_are_taken_and_broken_epochs_are_not(kind: Any) -> None:
    assert make(budget=kind(0.5)).settings.budget == 0.5
    for wrong in (kind(2.5), 2.5):
        with pytest.raises(ValueError, match="epochs"):
            make(epochs=wrong)
        with pytest.raises(ValueError, match="seed"):
            make().reset(seed=wrong)
        with pytest.raises(ValueError, match="seed"):
            make_vector(2).reset(seed=wrong)


@pytest.mark.parametrize("wrong", [True, np.True_, "3", -1, 1.0])
def test_a_seed_that_is_no_whole_number_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        make().reset(seed=wrong)  # type: ignore[arg-type]


def test_without_a_seed_runs_are_drawn() -> None:
    first, other = make(), make()
    assert first.reset(seed=None)[1]["run_seed"] != other.reset()[1]["run_seed"]
