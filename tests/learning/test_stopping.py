"""A training stops where it is asked to, the imitation too, and goes on to the same policy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.slow import slow

from dynprune_agents.learning.evolution import EvolutionSettings, EvolutionTrainer
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.training import Plan, train
from dynprune_agents.policies._files import load_scorer
from dynprune_env.common.pulse import listening
from dynprune_env.common.stopping import Stopped

pytestmark = pytest.mark.usefixtures("few_evaluations")
MIXTURE = Mixture(
    budgets=(0.3, 0.6), env_kwargs={"train_size": 60, "epochs": 3, "reward": "val_accuracy"}
)
DRAWS = 9
COMMAND = [
    *("train", "--env-kwargs", "train_size=500", "--device", "cpu", "--steps", "9000"),
    *("--set", "members=4", "--set", "imitation=300", "--set", "width=2", "--envs", "8"),
]


def trainer() -> EvolutionTrainer:
    """One that imitates for nine draws in three rounds."""
    settings = EvolutionSettings(width=2, members=4, imitation=DRAWS)
    return EvolutionTrainer(MIXTURE, num_envs=8, steps=250, settings=settings)


def interrupt_at(place: int) -> tuple[list[str], object]:
    """What was told so far, and a listener that sends Ctrl-C at the so-manieth phase's beat."""
    told: list[str] = []

    def hear(what: str, share: float) -> None:
        if ":" not in what and what.startswith(("imitation", "generation")):
            told.append(f"{what} {share:.2f}")
            if len(told) == place:
                os.kill(os.getpid(), signal.SIGINT)

    return told, hear


@pytest.mark.parametrize("place", [11, *slow(2, 4, 6, 16)])
def test_the_first_ctrl_c_saves_what_is_done_and_the_rest_is_the_same(
    place: int, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole.npz", tmp_path / "stopped.npz"
    train(trainer(), Plan(250, whole))
    told, hear = interrupt_at(place)
    with pytest.raises(Stopped), listening(hear):
        train(trainer(), Plan(250, stopped))
    assert len(told) == place
    assert len(list(tmp_path.glob("stopped.checkpoints/0*"))) == 1
    told, hear = interrupt_at(-1)
    with listening(hear):
        train(trainer(), Plan(250, stopped))
    assert np.array_equal(load_scorer(str(whole))[1], load_scorer(str(stopped))[1])
    if 1 < place < 4:  # what was played is not played again
        assert told[0] == "imitation, round 1 of 3 0.33"
    elif place > 14:
        assert told[0].startswith("generation")


def test_the_imitation_is_named_round_by_round() -> None:
    told, hear = interrupt_at(-1)
    with listening(hear):
        trainer().advance()
    shares = ("0.00", "0.33", "0.67", "1.00")
    assert told == [f"imitation, round {r} of 3 {share}" for r in (1, 2, 3) for share in shares]


def test_checkpoints_are_saved_within_the_imitation(tmp_path: Path) -> None:
    found: list[int] = []

    def hear(what: str, share: float) -> None:
        found.append(len(list(tmp_path.glob("policy.checkpoints/0*"))))

    with listening(hear):
        train(trainer(), Plan(250, tmp_path / "policy.npz", checkpoint_every=0))
    assert max(found) == 1


def test_ctrl_c_in_the_first_phase_of_the_command_says_where_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from dynprune_agents.cli.app import main; main()", *COMMAND]
    running = subprocess.Popen(
        [*command, "--checkpoint-every", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("policy.checkpoints/0*")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, (out, err)
    assert "stopped; the same command goes on from policy.checkpoints" in err
    assert "Traceback" not in err
    assert "train es: imitation, round 1 of 3" in out
    assert len(list(tmp_path.glob("policy.checkpoints/0*"))) == 1
