"""RLlib sees every epoch of an episode; it pins Gymnasium, so it has an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.episodes import SMALL
from helpers.libraries import cells
from helpers.pages import ROOT, run

ppo = pytest.importorskip("ray.rllib.algorithms.ppo", reason='pip install "dynprune[rllib]"')

CELLS = [cell for cell in cells() if cell[0] == "rllib"]


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_it_sees_every_epoch_of_an_episode(cell: tuple[str, str, str, str]) -> None:
    """Under SAME_STEP its vector mode loses the first of each."""
    _, mode, observation, action = cell
    assert mode == "NextStep"  # the default
    game = {**SMALL, "budget": 1.0, "observation": observation, "action": action}
    config = (
        ppo.PPOConfig()
        .environment("dynprune_env:DynPrune-Digits-v0", env_config=game)
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


def test_its_example_trains(tmp_path: Path) -> None:
    text = run([str(ROOT / "examples/libraries/rllib_ppo.py"), "1"], tmp_path)
    assert "val accuracy" in text
