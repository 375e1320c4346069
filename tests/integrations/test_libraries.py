"""Libraries of reinforcement learning see every epoch of an episode, in all that the docs name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers import vector as rows_of
from helpers.episodes import SMALL
from helpers.libraries import LIBRARIES, cells
from helpers.pages import ROOT
from stable_baselines3.common.vec_env import VecMonitor

from dynprune_agents.learning import DynPruneVecEnv, SetPolicy
from dynprune_env import RelativeRewards

ID = "DynPrune-Digits-v0"
GAME: dict[str, Any] = {**SMALL, "budget": 1.0}
"""Whatever is kept, an episode is of four epochs."""


def run(arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def gymnasium(mode: str | None, folder: Path, **kinds: str) -> list[int]:
    """A wrapped run, and wrapped rows, one of whose wrappers refuses other modes."""
    env: Any = RecordEpisodeStatistics(gym.make(ID, **GAME, **kinds))
    env.action_space.seed(0)
    env.reset(seed=0)
    ended = False
    while not ended:
        _, _, ended, _, info = env.step(env.action_space.sample())
    rows: Any = gym.make_vec(ID, 2, **GAME, **kinds)
    assert rows.metadata["autoreset_mode"].value == mode
    rows = rows_of.RecordEpisodeStatistics(rows_of.FlattenObservation(rows))
    rows.action_space.seed(0)
    rows.reset(seed=0)
    for _ in range(4):
        *_, infos = rows.step(rows.action_space.sample())
    return [info["episode"]["l"], *infos["episode"]["l"]]


def stable_baselines(*names: str, policy: Any = None, **settings: Any) -> Callable[..., list[int]]:
    def play(mode: str | None, folder: Path, **kinds: str) -> list[int]:
        import sb3_contrib
        import stable_baselines3

        lengths = []
        for name in names:
            inner = gym.make_vec(ID, 2, **GAME, **kinds)
            env = VecMonitor(DynPruneVecEnv(inner))
            assert inner.metadata["autoreset_mode"].value == mode
            nested = isinstance(env.observation_space, gym.spaces.Dict)
            stock = "MultiInputPolicy" if nested else "MlpPolicy"
            algorithm: Any = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
            model = algorithm(policy or stock, env, seed=0, device="cpu", **settings)
            model.learn(16)
            lengths += [told["l"] for told in model.ep_info_buffer]
        return lengths

    return play


def rl_zoo(mode: str | None, folder: Path, **kinds: str) -> list[int]:
    """By its command line, with the files of the zoo; then the policies play."""
    pytest.importorskip("rl_zoo3.train")
    given = {**GAME, **kinds}
    lengths = []
    for name in ("ppo", "sac"):
        options = ["--algo", name, "--env", ID, "--gym-packages", "dynprune_env"]
        options += ["--conf-file", str(ROOT / f"zoo/{name}.yml"), "--n-timesteps", "320"]
        options += ["--eval-freq", "-1", "-f", str(folder / "logs"), "--env-kwargs"]
        options += [f"{key}:{value!r}" for key, value in given.items()]
        run(["-m", "rl_zoo3.train", *options], folder)
        (saved,) = folder.glob(f"logs/{name}/{ID}_1")
        for table in saved.glob("*.monitor.csv"):
            lengths += [int(line.split(",")[1]) for line in table.read_text().splitlines()[2:]]
        play = (
            "from dynprune_env import run_episodes; import dynprune_agents, sys; "
            "agent = dynprune_agents.make(f'sb3(policy={sys.argv[1]!r}, trust=True)'); "
            f"print(run_episodes({ID!r}, agent, [0], env_kwargs={{'device': 'cpu'}}))"
        )
        assert "test_accuracy" in run(["-c", play, str(saved / f"{ID}.zip")], folder)
    return lengths


def torchrl_single(mode: str | None, folder: Path, **kinds: str) -> list[int]:
    envs = pytest.importorskip("torchrl.envs")
    game = {key: GAME[key] for key in ("train_size", "epochs", "budget")}
    env = envs.GymEnv(ID, **game, **kinds)  # batch_size and device would be TorchRL's own
    envs.check_env_specs(env)
    rollout = env.rollout(10)
    if kinds["observation"] == "samples":
        assert rollout["next", "visits"].shape == (4, 48)
    return [1 + i for i in rollout["next", "done"][:, 0].nonzero().flatten().tolist()]


def torchrl_rows(mode: str | None, folder: Path, **kinds: str) -> list[int]:
    envs = pytest.importorskip("torchrl.envs")
    env = envs.GymWrapper(gym.make_vec(ID, 3, autoreset_mode=mode, **GAME, **kinds))
    done = env.rollout(4, break_when_any_done=False)["next", "done"][..., 0]
    return [1 + int(row.nonzero()) for row in done]


def skrl(mode: str | None, folder: Path, **kinds: str) -> list[int]:
    wrappers = pytest.importorskip("skrl.envs.wrappers.torch")
    rows = gym.make_vec(ID, 3, **GAME, **kinds)
    assert rows.metadata["autoreset_mode"].value == mode
    env = wrappers.wrap_env(rows, wrapper="gymnasium")
    env.reset()
    rows.action_space.seed(0)
    ended = []
    for _ in range(5):  # the fifth begins anew
        action = torch.as_tensor(np.reshape(rows.action_space.sample(), (3, -1)))
        *_, terminated, _, _ = env.step(action)
        ended.append(terminated.flatten().tolist())
    return [1 + column.index(True) for column in zip(*ended, strict=True) if sum(column) == 1]


def own_loop(mode: str | None, folder: Path, **kinds: str) -> list[int]:
    envs: Any = gym.make_vec(ID, 2, autoreset_mode=mode, **GAME, **kinds)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    steps = 0
    while not envs.ended.all():
        envs.step(envs.action_space.sample())
        steps += 1
    assert (envs.evaluate("test").accuracy > 0).all()
    return [steps]


PLAYS: dict[str, Callable[..., list[int]]] = {
    "gymnasium": gymnasium,
    "set_policy": stable_baselines("PPO", "A2C", policy=SetPolicy, n_steps=4),
    "ppo_and_a2c": stable_baselines("PPO", "A2C", n_steps=4),
    "sac_and_td3": stable_baselines("SAC", "TD3", "TQC", learning_starts=4, batch_size=4),
    "dqn": stable_baselines("DQN", learning_starts=4, batch_size=4),
    "rl_zoo": rl_zoo,
    "torchrl_single": torchrl_single,
    "torchrl_rows": torchrl_rows,
    "skrl": skrl,
    "own_loop": own_loop,
}
SLOW = {"rl_zoo"}


@pytest.mark.filterwarnings(
    "ignore:You have specified a mini-batch size:UserWarning:stable_baselines3"
)
@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(
            cell, id="-".join(filter(None, cell)), marks=[pytest.mark.slow] * (cell[0] in SLOW)
        )
        for cell in cells("rllib")
    ],
)
def test_a_library_sees_every_epoch_of_an_episode(cell: Any, tmp_path: Path) -> None:
    play, mode, observation, action = cell
    lengths = PLAYS[play](mode, tmp_path, observation=observation, action=action)
    assert lengths
    assert set(lengths) == {4}


def torchrl_rewards(rows: Any) -> np.ndarray:
    envs = pytest.importorskip("torchrl.envs")
    env = envs.GymWrapper(rows)
    env.set_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # what draws the actions
        rollout = env.rollout(4, break_when_any_done=False)
    rewards: np.ndarray = rollout["next", "reward"][..., 0].numpy()
    return rewards


def skrl_rewards(rows: Any) -> np.ndarray:
    wrappers = pytest.importorskip("skrl.envs.wrappers.torch")
    env = wrappers.wrap_env(rows, wrapper="gymnasium")
    rows.reset(seed=0)  # what follows draws from it
    rows.action_space.seed(0)
    env.reset()
    played = [env.step(torch.as_tensor(rows.action_space.sample()))[1] for _ in range(4)]
    return torch.cat(played, dim=1).numpy()


@pytest.mark.parametrize(
    ("rewards", "mode"),
    [(torchrl_rewards, "Disabled"), (torchrl_rewards, "SameStep"), (skrl_rewards, "NextStep")],
)
def test_ranks_among_twins_reach_other_libraries(
    rewards: Callable[[Any], np.ndarray], mode: str
) -> None:
    kwargs = {**GAME, "budget": 0.5, "observation": "run", "action": "tilts", "twins": 3}
    rows = RelativeRewards(gym.make_vec(ID, 6, autoreset_mode=mode, **kwargs), kind="rank")
    found = rewards(rows)
    assert not found[:, :3].any()  # (6, 4): nothing before the end
    ranks = found[:, 3].reshape(2, 3)
    np.testing.assert_allclose(ranks.sum(1), 0, atol=1e-6)
    assert (np.ptp(ranks, axis=1) > 0).all()
    np.testing.assert_array_equal(rewards(rows), found)  # the same seed, the same ranks


def test_every_row_of_the_table_is_played() -> None:
    assert {*LIBRARIES} == {*PLAYS, "rllib"}  # which has its own environment and file


@pytest.mark.slow
def test_the_torchrl_example_trains(tmp_path: Path) -> None:
    pytest.importorskip("torchrl")
    text = run([str(ROOT / "examples/libraries/torchrl_reinforce.py"), "2"], tmp_path)
    assert "test accuracy" in text
