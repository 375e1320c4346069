"""Libraries of reinforcement learning as their users start them; skipped where they are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from helpers.episodes import SMALL

import dynprune_env
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.observations import OBSERVATIONS

ROOT = Path(__file__).parent.parent.parent
ID = "DynPrune-Digits-v0"
SHORT: dict[str, Any] = {**SMALL, "observation": "run", "action": "tilts"}

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries themselves


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


@pytest.mark.parametrize("action", ["mask", "tilts", "strategy", "weights"])
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_torchrl_rolls_out_every_kind(observation: str, action: str) -> None:
    envs = pytest.importorskip("torchrl.envs")
    kinds = {"observation": observation, "action": action, "train_size": 48, "epochs": 4}
    env = envs.GymEnv(ID, **kinds)  # batch_size and device would be TorchRL's own
    envs.check_env_specs(env)
    rollout = env.rollout(10)
    steps = len(rollout)
    assert steps == (2 if action == "weights" else 4)  # random weights keep all
    assert rollout["next", "done"][:, 0].tolist() == [False] * (steps - 1) + [True]
    if observation == "samples":
        assert rollout["next", "visits"].shape == (steps, 48)


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_torchrl_takes_rows_side_by_side(mode: str) -> None:
    envs = pytest.importorskip("torchrl.envs")
    env = envs.GymWrapper(gym.make_vec(ID, 3, autoreset_mode=mode, **SHORT))
    rollout = env.rollout(4, break_when_any_done=False)
    assert rollout["next", "reward"].shape == (3, 4, 1)
    assert rollout["next", "done"][:, 3].all()


def test_the_torchrl_example_trains(tmp_path: Path) -> None:
    pytest.importorskip("torchrl")
    text = run([str(ROOT / "examples/libraries/torchrl_reinforce.py"), "2"], tmp_path)
    assert "test accuracy" in text


def test_rllib_sees_every_epoch_of_an_episode() -> None:
    """Under SAME_STEP its vector mode loses the first of each."""
    ppo = pytest.importorskip("ray.rllib.algorithms.ppo")
    config = (
        ppo.PPOConfig()
        .environment(f"dynprune_env:{ID}", env_config=SHORT)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=3,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .training(train_batch_size=60, minibatch_size=60, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        told = algorithm.train()["env_runners"]
        assert (told["episode_len_min"], told["episode_len_max"]) == (4, 4)
    finally:
        algorithm.stop()


def test_the_rllib_example_trains(tmp_path: Path) -> None:
    pytest.importorskip("ray.rllib")
    text = run([str(ROOT / "examples/libraries/rllib_ppo.py"), "1"], tmp_path)
    assert "val accuracy" in text


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_rl_zoo_trains_with_the_files_of_the_zoo(algorithm: str, tmp_path: Path) -> None:
    pytest.importorskip("rl_zoo3.train")
    options = ["--algo", algorithm, "--env", ID, "--gym-packages", "dynprune_env"]
    options += ["--conf-file", str(ROOT / f"zoo/{algorithm}.yml"), "--n-timesteps", "320"]
    options += ["--eval-freq", "-1", "-f", str(tmp_path / "logs")]
    run(["-m", "rl_zoo3.train", *options], tmp_path)
    (model,) = tmp_path.glob(f"logs/{algorithm}/{ID}_1/{ID}.zip")
    play = (
        "from dynprune_env import run_episodes; import dynprune_agents, sys; "
        "agent = dynprune_agents.make(f'sb3(policy={sys.argv[1]!r}, trust=True)'); "
        f"print(run_episodes({ID!r}, agent, [0], env_kwargs={{'budget': 0.1, 'device': 'cpu'}}))"
    )
    assert "test_accuracy" in run(["-c", play, str(model)], tmp_path)


def test_skrl_wraps_the_rows() -> None:
    wrappers = pytest.importorskip("skrl.envs.wrappers.torch")
    env = wrappers.wrap_env(gym.make_vec(ID, 3, **SHORT), wrapper="gymnasium")
    env.reset()
    import torch

    ended = []
    for _ in range(5):
        *_, terminated, _, _ = env.step(torch.zeros(3, 8))
        ended.append(terminated.flatten().tolist())
    assert ended == [[False] * 3] * 3 + [[True] * 3] + [[False] * 3]


def test_the_table_of_libraries_names_every_kind_of_action_and_observation() -> None:
    text = (ROOT / "docs/libraries.md").read_text()
    for name in (*ACTIONS, *OBSERVATIONS):
        assert f"`{name}`" in text
    assert dynprune_env.TASK_NAMES
    assert np.all([name in text for name in ("TorchRL", "RLlib", "rl-zoo3", "skrl")])
