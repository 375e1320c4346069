"""What was kept when: packing, hand-made selections, real runs recomputed, the command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.results import run
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr
from typer.testing import CliRunner

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.cli import app as cli
from dynprune_env import run_episodes
from dynprune_env.benchmark.masks import pack, unpack
from dynprune_env.benchmark.results import HISTORY, Result
from dynprune_env.report.selections import (
    SelectionAnalysis,
    analyse_selections,
    summarize_selections,
)
from dynprune_env.tasks.registry import TASKS
from dynprune_env.tasks.variants import Variant

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 40)))


def finished(
    masks: Any, seed: int = 0, agent: str = "ucb", budget: float = 0.5, **history: list[float]
) -> Result:
    """A result with these selections, (epochs, n), and curves."""
    masks = np.array(masks, dtype=bool)
    curves = {name: [0.0] * len(masks) for name in HISTORY}
    return replace(
        run(0.9, seed, agent, budget, "DynPrune-Digits-v0"),
        num_samples=masks.shape[1],
        epochs=len(masks),
        history={**curves, "kept": masks.sum(1).tolist(), **history},
        visits=int(masks.sum()),
        selections=pack(masks),
    )


@given(MASKS)
def test_packed_selections_are_plain_text_and_come_back_the_same(masks: np.ndarray) -> None:
    text = pack(masks)
    assert text.isascii()
    again = unpack(text, *masks.shape)
    assert again.dtype == bool
    assert np.array_equal(again, masks)


# -- one run -----------------------------------------------------------------------------------


def test_samples_are_kept_always_sometimes_or_never_and_empty_epochs_do_not_count() -> None:
    kept = analyse_selections(
        finished([[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 1, 0]])
    )
    assert (kept.always, kept.sometimes, kept.never) == pytest.approx((0.2, 0.6, 0.2))
    # Two of four in common, then none of three, none of two.
    assert kept.turnover == pytest.approx([0.5, 1, 1])


def test_the_same_selection_again_is_no_turnover_and_a_disjoint_one_is_all() -> None:
    kept = analyse_selections(finished([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]))
    assert kept.turnover.tolist() == [0, 1, 1, 0]


def test_a_run_that_trained_nothing_and_a_run_of_one_epoch() -> None:
    nothing, one = (
        analyse_selections(finished(np.zeros((3, 4)))),
        analyse_selections(finished([[1, 0, 0, 1]])),
    )
    assert (nothing.always, nothing.sometimes, nothing.never) == (0, 0, 1)
    assert (one.always, one.sometimes, one.never) == (0.5, 0, 0.5)
    assert one.turnover.shape == (0,)


@given(MASKS)
@example(np.arange(10)[None] > 0)  # in floating point 1 - .9 - .1 is below 0
def test_the_three_shares_are_shares_and_sum_to_one(masks: np.ndarray) -> None:
    kept = analyse_selections(finished(masks))
    shares = [kept.always, kept.sometimes, kept.never]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0
    assert ((kept.turnover >= 0) & (kept.turnover <= 1)).all()


# -- many runs ---------------------------------------------------------------------------------


def test_a_summary_is_the_mean_over_the_seeds_that_reached_an_epoch() -> None:
    runs = [
        finished([[1, 1], [1, 0], [1, 1]], seed=0, drift=[1, 0.5, 0.25], corrupted=[0.4, 0.2, 0]),
        finished([[1, 0]], seed=1, drift=[0], corrupted=[0.2]),
    ]
    (row,) = summarize_selections(runs)
    assert (row.agent, row.budget, row.variant, row.seeds) == ("ucb", 0.5, "", 2)
    mean = row.mean  # always 1/2 and 1/2, sometimes 1/2 and 0, never 0 and 1/2
    assert (mean.always, mean.sometimes, mean.never) == pytest.approx((0.5, 0.25, 0.25))
    assert mean.turnover == pytest.approx([0.5, 0.5])
    assert mean.drift == pytest.approx([0.5, 0.5, 0.25])
    assert mean.corrupted == pytest.approx([0.3, 0.2, 0])
    assert mean.duplicates == pytest.approx([0, 0, 0])


def test_runs_of_one_epoch_have_no_turnover_to_average() -> None:
    (row,) = summarize_selections([finished([[1, 0]], seed=seed) for seed in range(2)])
    assert row.mean.turnover.shape == (0,)


def test_each_agent_and_budget_has_a_row_of_its_own_in_order() -> None:
    pairs = [("ucb", 0.5), ("ucb", 0.3), ("aum", 0.5), ("ucb", 0.5)]
    runs = [finished([[1, 0]], seed, *pair) for seed, pair in enumerate(pairs)]
    found = [(row.budget, row.agent, row.seeds) for row in summarize_selections(runs)]
    assert found == [(0.3, "ucb", 1), (0.5, "aum", 1), (0.5, "ucb", 2)]


def test_no_results_are_nothing_to_analyse() -> None:
    with pytest.raises(ValueError, match="no results"):
        summarize_selections([])


# -- a real run --------------------------------------------------------------------------------


@dataclass
class Watcher(Agent):
    """Keeps half at random, nothing in the third epoch; remembers what it saw."""

    def reset(self, episode: Any) -> None:
        super().reset(episode)
        self.masks: list[np.ndarray] = []
        self.losses: list[np.ndarray] = []

    def select(self, observation: Any) -> np.ndarray:
        self.losses.append(observation["loss"])
        share = 0.5 if len(self.masks) != 2 else 0
        self.masks.append(self.rng.random(self.episode.num_samples) < share)
        return self.masks[-1]

    def update(self, observation: Any, action: Any, reward: Any, next_observation: Any) -> None:
        self.last = next_observation["loss"]


DATA = {"train_size": 90, "label_noise": 0.4, "duplicates": 0.3, "data_seed": 1}


def test_a_real_runs_history_is_what_its_masks_and_losses_say() -> None:
    agent, kwargs = Watcher(), {**DATA, "epochs": 6, "budget": 0.9}
    results = run_episodes("DynPrune-Digits-v0", agent, [0, 1], env_kwargs=kwargs, device="cpu")
    data = Variant(**DATA).build(TASKS["Digits"].info, None, False)
    wrong = data.train.labels.numpy() != data.clean_labels
    assert 0 < wrong.sum() < data.redrawn.sum()
    repeats, losses = data.duplicate_of >= 0, [*agent.losses, agent.last]
    for row, result in enumerate(results):
        masks = unpack(result.selections, 6, 90)
        assert np.array_equal(masks, [mask[row] for mask in agent.masks])
        assert result.history["kept"] == masks.sum(1).tolist()
        count = np.maximum(masks.sum(1), 1)
        assert result.history["corrupted"] == pytest.approx((masks & wrong).sum(1) / count)
        assert result.history["duplicates"] == pytest.approx((masks & repeats).sum(1) / count)
        assert masks.any(1).tolist() == [True, True, False, True, True, True]
        drift = [
            1 - spearmanr(losses[epoch][row], losses[epoch + 1][row]).statistic
            for epoch in range(1, 6)
        ]
        assert result.history["drift"] == pytest.approx([0, *drift])
        assert result.history["drift"][2] == pytest.approx(0)
        assert max(drift) > 0.1
        found = analyse_selections(result)
        for name in ("drift", "corrupted", "duplicates"):
            assert getattr(found, name).tolist() == result.history[name]


def test_dynamic_and_static_selections_differ_as_they_should() -> None:
    def analysed(spec: str) -> SelectionAnalysis:
        agent, small = dynprune_agents.make(spec), {"train_size": 60, "epochs": 10}
        runs = run_episodes("DynPrune-Digits-v0", agent, [0, 1], env_kwargs=small, device="cpu")
        return summarize_selections(runs)[0].mean

    static, dynamic = analysed("static_random"), analysed("dynamic_random")
    assert (static.always, static.sometimes, static.never) == (0.5, 0, 0.5)
    assert static.turnover.tolist() == [0] * 9
    assert dynamic.sometimes > 0.98
    assert dynamic.turnover == pytest.approx([2 / 3] * 9, abs=0.15)  # 15 of 45 in common


# -- the command -------------------------------------------------------------------------------


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["kept", *arguments], env={"COLUMNS": "120"})


def test_the_command_prints_the_means_and_draws_them(tmp_path: Path) -> None:
    curves = {"drift": [1, 0.5, 0.3], "corrupted": [0.1, 0.2, 0.3], "duplicates": [0, 0.05, 0.1]}
    masks = [[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 0, 0, 1, 0]]
    for seed in range(2):
        finished(masks, seed, **curves).save(tmp_path)
    done = call(str(tmp_path))
    assert done.exit_code == 0, done.output
    (line,) = (line.split() for line in done.output.splitlines() if " ucb " in f" {line} ")
    # Turnover: 2 of 4 and 2 of 3 in common.
    assert line == ["ucb", "50", "20", "60", "20", "41.7", "60.0", "20.0", "5.0"]
    assert (tmp_path / "kept.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_results_is_named_in_the_error(tmp_path: Path) -> None:
    done = call(str(tmp_path))
    assert isinstance(done.exception, ValueError)
    assert str(tmp_path) in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_full_data_alone_are_nothing_to_draw(tmp_path: Path) -> None:
    finished([[1, 1]], budget=1.0, agent="full_data").save(tmp_path)
    before = list(tmp_path.iterdir())
    done = call(str(tmp_path))
    assert isinstance(done.exception, ValueError)
    assert "budget 1" in str(done.exception)
    assert list(tmp_path.iterdir()) == before
