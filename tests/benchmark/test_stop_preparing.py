"""What an agent prepares before its runs stops when it is asked to, and is done once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dynprune_agents
from dynprune_env import run_episodes
from dynprune_env.benchmark.checkpoints import Checkpoint, Stopped
from dynprune_env.common.pulse import beat, doing, listening
from dynprune_env.envs.scoring import EnvScoringRuns

SMALL = {"train_size": 60, "epochs": 4}


def play(spec: str, checkpoint: Checkpoint | None, **kwargs: Any) -> list[Any]:
    """The results of one small run."""
    agent = dynprune_agents.make(spec)
    return run_episodes(
        "DynPrune-Digits-v0",
        agent,
        [0],
        env_kwargs={**SMALL, **kwargs},
        device="cpu",
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize(
    ("spec", "kwargs"),
    [
        ("grand(chunk=1)", {}),
        ("grand(nets=1, early=0.0, chunk=1)", {}),
        ("el2n", {}),
        ("aum", {}),
        ("rho_loss", {}),
        ("tdds", {}),
        ("random_control(rule='el2n')", {}),
        ("aum", {"learner": "modules", "batch_size": 8}),
    ],
)
def test_a_preparation_stops_at_the_next_beat(
    spec: str, kwargs: dict[str, Any], tmp_path: Path
) -> None:
    stop, told = tmp_path / "stop", []

    def hear(what: str, share: float) -> None:
        told.append(what)
        if what.startswith("scoring beforehand"):
            stop.touch()

    with pytest.raises(Stopped), listening(hear):
        play(spec, Checkpoint(tmp_path / "state", stop=stop), **kwargs)
    assert sum(what.startswith("scoring beforehand") for what in told) == 1
    assert not (tmp_path / "state").exists()


def test_a_chunk_of_gradients_can_be_the_last(tmp_path: Path) -> None:
    stop, shares = tmp_path / "stop", []

    def hear(what: str, share: float) -> None:
        shares.append(share)
        if share > 0.5:
            stop.touch()

    with pytest.raises(Stopped), listening(hear):
        play("grand(early=0.0, chunk=1)", Checkpoint(tmp_path / "state", stop=stop))
    assert shares[-1] == pytest.approx(31 / 60)


def test_a_finished_preparation_is_saved_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tmp_path / "stop"
    checkpoint = Checkpoint(tmp_path / "state", every=3600, stop=stop)
    expected = play("aum", None)[0]
    prepare = EnvScoringRuns.run
    calls: list[int] = []

    def counted(self: EnvScoringRuns, index: int, epochs: int, mask: Any = None) -> Any:
        calls.append(index)
        yield from prepare(self, index, epochs, mask)
        stop.touch()  # at the very end: no beat follows

    monkeypatch.setattr(EnvScoringRuns, "run", counted)
    with pytest.raises(Stopped):
        play("aum", checkpoint)
    stop.unlink()
    (found,) = play("aum", checkpoint)
    assert len(calls) == 1
    assert found.test_loss == expected.test_loss
    assert found.selections == expected.selections
    assert found.visits == expected.visits


def test_epochs_are_named_and_their_parts_told() -> None:
    told: list[tuple[str, float]] = []
    with listening(lambda what, share: told.append((what, share))):
        play("dynamic_random(period=1, warmup=0)", None, learner="modules", batch_size=8)
    first = [share for what, share in told if what == "epoch 1 of 4"]
    assert len(first) > 2
    assert first == sorted(first)
    assert 0 <= first[0] < first[-1] < 1
    assert ("epoch 4 of 4: evaluation on val", 0.0) in told


def test_only_who_listens_hears() -> None:
    told: list[tuple[str, float]] = []

    def hear(what: str, share: float) -> None:
        told.append((what, share))

    beat(0.1)
    with doing("this"), listening(hear):
        with doing("that"):
            beat(0.5)
        beat(0.75)
    beat(1.0)
    assert told == [("this: that", 0.5), ("this", 0.75)]
