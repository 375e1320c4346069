"""Policies whose observations VecNormalize normalised see them so when they play."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

import dynprune_agents
from dynprune_agents.cli.trust import foreign_agent
from dynprune_agents.learning.saving import save_policy
from dynprune_agents.learning.vec_env import DynPruneVecEnv

ID = "DynPrune-Digits-v0"
FEW: dict[str, Any] = {"budget": 0.5, "epochs": 3, "train_size": 60, "device": "cpu"}
KINDS = {"observation": "run", "action": "tilts"}


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    """A model and its statistics, saved as rl-zoo3 lays them out."""
    env = VecNormalize(DynPruneVecEnv(gym.make_vec(ID, 2, **FEW, **KINDS)), norm_reward=False)
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=8, seed=0, device="cpu").learn(8)
    model.save(tmp_path / "model.zip")
    (tmp_path / ID).mkdir()
    env.save(str(tmp_path / ID / "vecnormalize.pkl"))
    return model, env, tmp_path


def test_it_acts_on_what_it_saw_in_training(trained: Any) -> None:
    model, env, folder = trained
    beside = str(folder / ID / "vecnormalize.pkl")
    spec = f"sb3(policy={str(folder / 'model.zip')!r}, trust=True, vecnormalize={beside!r})"
    agent = dynprune_agents.make(spec)
    game = gym.make(ID, **FEW, **agent.env_kwargs)
    seen, _ = game.reset(seed=3)
    agent.reset(game.unwrapped.episode(0))
    expected, _ = model.predict(env.normalize_obs(seen), deterministic=True)
    np.testing.assert_array_equal(agent.select(seen), expected)
    assert not np.array_equal(expected, model.predict(seen, deterministic=True)[0])
    assert [path.name for path in agent.files()] == ["model.zip", "vecnormalize.pkl"]


def test_saving_the_policy_alone_says_what_is_missing(trained: Any) -> None:
    model, _, folder = trained
    with pytest.warns(UserWarning, match=r"holds no statistics .*vecnormalize=path"):
        save_policy(folder / "policy.npz", model)
    assert (folder / "policy.npz").exists()


@pytest.mark.parametrize("place", [".", ID])
def test_statistics_that_lie_beside_and_are_not_named_are_warned_of(
    trained: Any, place: str
) -> None:
    _, env, folder = trained
    (folder / ID / "vecnormalize.pkl").unlink()
    env.save(str(folder / place / "vecnormalize.pkl"))
    agent = dynprune_agents.make(f"sb3(policy={str(folder / 'model.zip')!r}, trust=True)")
    game = gym.make(ID, **FEW, **KINDS)
    game.reset(seed=0)
    with pytest.warns(UserWarning, match=r"vecnormalize\.pkl lies beside the policy"):
        agent.reset(game.unwrapped.episode(0))


def test_statistics_that_are_none_or_not_trusted_are_refused(trained: Any) -> None:
    folder = trained[2]
    (folder / "other.pkl").write_bytes(pickle.dumps({"mean": 0}))
    (folder / "text.pkl").write_text("no pickle")
    game = gym.make(ID, **FEW, **KINDS)
    game.reset(seed=0)
    for name, trust, expected in (
        ("nowhere.pkl", True, "there is no file"),
        ("other.pkl", True, "not what VecNormalize saved, but dict"),
        ("text.pkl", True, "not what VecNormalize saved"),
        (f"{ID}/vecnormalize.pkl", False, "is a pickle"),
    ):
        policy = "ppo" if not trust else str(folder / "model.zip")
        agent = dynprune_agents.make(
            f"sb3(policy={policy!r}, trust={trust}, vecnormalize={str(folder / name)!r})"
        )
        with pytest.raises(ValueError, match=expected):
            agent.reset(game.unwrapped.episode(0))


def test_a_strangers_statistics_are_foreign() -> None:
    reason = foreign_agent("sb3(policy='ppo', vecnormalize='some.pkl')")
    assert reason == "its statistics 'some.pkl' do not ship with this package"


@pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")
def test_a_policy_trained_side_by_side_plays_the_single_environment() -> None:
    groups = [gym.make_vec(ID, 1, **{**FEW, "epochs": epochs}) for epochs in (3, 5)]
    model = PPO("MultiInputPolicy", DynPruneVecEnv(groups), n_steps=4, batch_size=8).learn(8)
    env = gym.make(ID, **FEW)
    assert np.isfinite(evaluate_policy(model, env, n_eval_episodes=2)).all()
    action, _ = model.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action.astype(np.int8))
