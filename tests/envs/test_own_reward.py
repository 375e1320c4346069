"""A reward of one's own is a function of two `Metrics`, named by its module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.episodes import assert_same, make, make_vector, play, random_masks

import dynprune_agents
from dynprune_agents.cli.trust import foreign_env
from dynprune_env import Settings, run_episodes
from dynprune_env.benchmark.identity import fingerprint

CODE = """
import numpy as np
import paid_helper

def gain(before, after):
    return paid_helper.SCALE * (before.val_loss - after.val_loss)

def first(before, after):
    before.val_loss[:] = 0
    after.val_accuracy[:] = 0
    return after.val_loss

def bonus(before, after):
    return np.where(after.ended, after.val_accuracy, 0)

def level(before, after):
    return after.val_accuracy

def short(before, after): return 1.0
def words(before, after): return ["a", "b"]
def broken(before, after): return before.val_loss / 0 * np.nan
def raises(before, after): return after.nothing
NUMBER = 3
class Kind: pass
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "paid_mine.py").write_text(CODE)
    (tmp_path / "paid_helper.py").write_text("SCALE = 3.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("paid_mine", "paid_helper"):
        sys.modules.pop(name, None)


def rewards(**settings: Any) -> np.ndarray:
    env = make(**settings)
    return np.array([step[1] for step in play(env, random_masks(env, 4), seed=0)[1:]])


def test_a_twin_that_idles_is_paid_nothing_until_its_group_is_over() -> None:
    env = make_vector(2, "Disabled", twins=2, reward="paid_mine:level")
    masks = random_masks(env, 4, np.array([1.0, 0.2])[:, None])  # two epochs, and four
    paid = np.array([step[1] for step in play(env, masks, seed=0)[1:]])
    assert (paid[:, 1] > 0).all()
    assert (paid[:, 0] > 0).tolist() == [True, True, False, True]


def test_it_pays_what_the_function_says() -> None:
    np.testing.assert_allclose(rewards(reward="paid_mine:gain"), 3 * rewards(), rtol=1e-12)
    paid = rewards(reward="paid_mine:bonus")
    assert_same(paid, rewards(reward="final_accuracy"))


def test_rows_are_paid_as_alone_and_their_ends_by_the_mode() -> None:
    envs = make_vector(2, "SameStep", reward="paid_mine:bonus")
    other = make_vector(2, "SameStep", reward="final_accuracy")
    masks = random_masks(envs, 6)
    for one, two in zip(play(envs, masks, seed=0)[1:], play(other, masks, seed=0)[1:], strict=True):
        assert_same(one[1], two[1])


def test_what_it_does_to_its_arguments_changes_no_run() -> None:
    env, other = make(reward="paid_mine:first"), make()
    masks = random_masks(env, 4)
    for one, two in zip(play(env, masks, seed=0), play(other, masks, seed=0), strict=True):
        assert_same([one[0], one[-1]], [two[0], two[-1]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("paid_mine:nothing", "cannot load the reward 'paid_mine:nothing'"),
        ("paid_nowhere:gain", "cannot load the reward"),
        (":gain", "cannot load the reward"),
        ("paid_mine:", "cannot load the reward"),
        ("paid_mine:NUMBER", "function of two Metrics, got 3"),
        ("paid_mine:Kind", "function of two Metrics"),
        ("paid_mine:short", "one for each replica, got array"),
        ("paid_mine:words", "one for each replica"),
        ("paid_mine:broken", "finite numbers"),
        ("paid_mine:raises", "fails: AttributeError"),
        ("val_los", "Did you mean 'val_loss'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_what_is_no_reward_is_refused_before_anything_is_read(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Settings(reward=name)


def test_its_code_and_what_it_imports_decide_a_runs_fingerprint(tmp_path: Path) -> None:
    kinds = {"train_size": 48, "epochs": 2, "device": "cpu"}
    found = fingerprint(Settings(reward="paid_mine:gain", **kinds))
    assert {"paid_mine", "paid_helper"} <= set(found.code)
    assert not {"paid_mine", "paid_helper"} & set(fingerprint(Settings(**kinds)).code)


def test_results_are_played_with_it_and_strangers_ones_are_not() -> None:
    kinds: dict[str, Any] = {"train_size": 48, "epochs": 2, "reward": "paid_mine:gain"}
    agent = dynprune_agents.make("random_control(rule='ucb(warmup=0)')")
    (result,) = run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=kinds)
    assert result.config.env_kwargs["reward"] == "paid_mine:gain"
    assert "paid_mine" in result.fingerprint.code
    reason = foreign_env(result.config.env, result.config.env_kwargs)
    assert reason == "its reward paid_mine:gain does not ship with this package"
