"""Runs that are over before they began, or after one epoch or visit, are results like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from helpers.command import call
from torch import Tensor, nn

import dynprune_agents
from dynprune_env import DynPruneVectorEnv, Recipe, Result, own_task, register_task, run_episodes
from dynprune_env.benchmark.recording import pack, unpack
from dynprune_env.benchmark.replay import validate
from dynprune_env.benchmark.results import HISTORY, load_results
from dynprune_env.report.figures import draw_accuracy, draw_curves, draw_selections
from dynprune_env.report.page import write_page
from dynprune_env.report.selections import analyse_selections, summarize_selections
from dynprune_env.report.styles import choose_styles
from dynprune_env.report.summary import summarize, summarize_tasks
from dynprune_env.tasks import registry

ID = "DynPrune-Lost-v0"
X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 2
AGENTS = [name for name in dynprune_agents.names() if name != "sb3"]  # which needs a policy's file


class Net(nn.Module):
    """A linear net that gives NaN from the start in some of its draws."""

    def __init__(self, lost: float):
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.luck = nn.Parameter(torch.rand(()), requires_grad=False)
        self.lost = lost

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.luck < self.lost, torch.nan, 1.0) * self.layer(x)


@pytest.fixture
def game() -> Iterator[Callable[..., None]]:
    """Registers a task of `samples` that loses a share `lost` of its runs at once."""

    def register(lost: float, samples: int = 60) -> None:
        data = X[:samples], Y[:samples]
        recipe = Recipe(epochs=3, batch_size=16, learning_rate=0.1)
        make = partial(own_task, data, (X, Y), partial(Net, lost), recipe, val_size=1)
        register_task("Lost", make)

    yield register
    registry._OWN.pop("Lost", None)
    registry.TASKS.pop("Lost", None)
    gym.registry.pop(ID, None)


def play(agent: str, seeds: int = 4, **kwargs: Any) -> list[Result]:
    made = dynprune_agents.make(agent)
    return run_episodes(ID, made, range(seeds), env_kwargs={"budget": 0.5, **kwargs}, device="cpu")


# -- the environment ----------------------------------------------------------------------------


def test_no_masks_pack_and_unpack_to_none() -> None:
    none = np.zeros((0, 7), dtype=bool)
    assert unpack(pack(none), 0, 7).shape == (0, 7)
    assert unpack(pack(np.array([], dtype=bool)), 0, 7).shape == (0, 7)
    one = np.array([[True, False, True]])
    np.testing.assert_array_equal(unpack(pack(one), 1, 3), one)


def test_the_first_step_of_a_run_that_is_over_ends_it_and_trains_nothing(
    game: Callable[..., None],
) -> None:
    game(lost=2.0)
    env = gym.make(ID, budget=0.5)
    for seed in (0, 1):
        observation, info = env.reset(seed=seed)
        assert info["diverged"]
        assert info["val_loss"] == 20
        after, reward, terminated, truncated, info = env.step(np.ones(59, dtype=np.int8))
        assert (reward, terminated, truncated) == (0.0, True, False)
        assert (info["epoch"], info["run_visits"], info["saved"]) == (0, 0, 1.0)
        np.testing.assert_array_equal(after["loss"], observation["loss"])
        with pytest.raises(ResetNeeded, match="ended"):
            env.step(np.ones(59, dtype=np.int8))


def test_a_state_of_a_run_that_was_over_at_once_goes_on_as_it_would_have(
    game: Callable[..., None],
) -> None:
    game(lost=2.0)
    env = gym.make(ID).unwrapped
    env.reset(seed=0)
    for other in (env, env.fork()):
        assert other.step(np.ones(59, dtype=np.int8))[2]


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
def test_side_by_side_only_the_lost_rows_are_over(mode: str, game: Callable[..., None]) -> None:
    game(lost=0.5)
    env = DynPruneVectorEnv(6, mode, task="Lost", budget=1.0, epochs=2)
    _, infos = env.reset(seed=0)
    lost = infos["diverged"].copy()
    assert 0 < lost.sum() < 6
    _, rewards, terminated, _, infos = env.step(np.ones((6, 59), dtype=np.int8))
    np.testing.assert_array_equal(terminated, lost if mode != "NextStep" else terminated)
    assert (rewards[lost] == 0).all()
    assert (infos["run_visits"][~lost] == 59).all()
    assert np.isfinite(rewards).all()


# -- every agent --------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [2.0, 0.5])
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.filterwarnings("ignore:.*spend the whole budget:UserWarning")
def test_every_agent_plays_runs_that_are_over_at_once(
    agent: str, lost: float, game: Callable[..., None]
) -> None:
    game(lost)
    found = play(agent)
    at_once = [run for run in found if not run.history["visits"]]
    assert len(at_once) == 4 if lost > 1 else 0 < len(at_once) < 4
    for run in found:
        assert {len(values) for values in run.history.values()} == {len(run.history["kept"])}
        assert run.diverged == (run in at_once)
    for run in at_once:
        assert (run.visits, run.test_accuracy, run.test_loss) == (0, 0.0, 20.0)
        assert set(run.history) == set(HISTORY)
        assert analyse_selections(run).never == 1


@pytest.mark.parametrize(
    ("samples", "kwargs"),
    [(60, {"epochs": 1}), (3, {}), (3, {"epochs": 1}), (2, {}), (60, {"budget": 1e-9})],
)
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.filterwarnings("ignore:.*spend the whole budget:UserWarning")
def test_every_agent_plays_the_smallest_runs(
    agent: str, samples: int, kwargs: dict[str, Any], game: Callable[..., None]
) -> None:
    game(0.0, samples)
    for run in play(agent, seeds=2, **kwargs):
        assert not run.diverged
        total = max(1, round(run.config.budget * run.epochs * (samples - 1)))
        assert len(run.history["visits"]) in range(1, run.epochs + 1)
        assert run.visits + run.scored / 3 <= total + 1e-6


# -- results ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [2.0, 0.5])
def test_their_results_are_saved_summarised_drawn_and_reproduced(
    lost: float, game: Callable[..., None], tmp_path: Path
) -> None:
    game(lost)
    played = [run for agent in ("dynamic_random", "ucb") for run in play(agent)]
    for run in played:
        run.save(tmp_path)
    found = list(load_results([tmp_path]))
    assert sorted(run.config.key for run in found) == sorted(run.config.key for run in played)
    verdicts = list(validate(found, dynprune_agents.make, device="cpu"))
    assert all(verdict.identical for verdict in verdicts)

    rows = summarize(found)
    assert {row.diverged for row in rows} == {sum(run.diverged for run in played[:4])}
    assert summarize_tasks(found) is not None
    styles = choose_styles(rows)
    draw_accuracy(rows, styles).canvas.draw()
    draw_selections(summarize_selections(found), styles).canvas.draw()
    if lost > 1:
        with pytest.raises(ValueError, match="none of these runs has a curve"):
            draw_curves(found, styles)
    else:
        draw_curves(found, styles).canvas.draw()
    write_page(found, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ("Learning curves" in page) == (lost < 1)
    assert ("that had diverged before the first epoch" in page) == (lost < 1)


def test_seconds_of_runs_that_trained_nothing_are_shared_equally(
    game: Callable[..., None],
) -> None:
    game(lost=2.0)
    found = play("dynamic_random", seeds=2)
    assert found[0].seconds["total"] > 0
    assert found[0].seconds == found[1].seconds


def test_every_command_takes_runs_that_are_over_at_once(
    game: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    game(lost=2.0)
    small = ["--env", ID, "--seeds", "2", "--device", "cpu"]
    call("run", *small, "--agent", "ucb")
    bench = ["bench", *small, "--agents", "ucb", "--budgets", "0.5", "--jobs", "1"]
    assert "†2" in call(*bench).output
    call(*bench)
    for command in ("report", "kept"):
        assert "ucb" in call(command, "results").output
    assert "the same, bit for bit" in call("validate", "results", "--runs", "2").output
