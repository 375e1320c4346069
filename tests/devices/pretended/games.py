"""On an accelerator the numbers are the CPU's, nothing mixes, and a step waits for it once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.episodes import assert_same, play, random_masks
from helpers.pretend_device import MISSING, pretended
from helpers.two_devices import CLOSE, GAMES, NETS, here, some_actions, there

from dynprune_env import DynPruneVectorEnv

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def check(settings: dict[str, Any], copies: int = 1) -> None:
    """Plays here and there; there a reset waits once, and so does each step."""
    env = here(3, **settings)
    actions = some_actions(env, 5)
    expected = [*play(env, actions, seed=3), env.evaluate("test"), env.evaluate("train")]
    with pretended() as log:
        env = there(3, **settings)
        env.reset(seed=8)  # reads the data
        log.clear()
        found: list[Any] = [env.reset(seed=3)]
        assert len(log.waits) == 1, log.waits
        for action in actions[: len(expected) - 3]:
            log.clear()
            found.append(env.step(action))
            assert len(log.waits) == 1, log.waits
            assert all(copy.non_blocking for copy in log.copies)
            if settings.get("task") != "Streamed":  # whose batches a DataLoader pins
                assert len(log.copies) <= copies
                assert all(copy.pinned for copy in log.copies)
        found += [env.evaluate("test"), env.evaluate("train")]
    assert_same(found, expected, CLOSE)


@pytest.mark.parametrize("net", NETS)
def test_every_net_trains_as_on_the_cpu_and_a_step_copies_and_waits_once(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check(nets[net])


@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_that_of_the_cpu_and_a_step_waits_once(game: str) -> None:
    check(GAMES[game], copies=2 if game == "all" else 1)


@pytest.mark.parametrize("net", ["modules", "convolutional", "streamed"])
def test_scoring_what_was_dropped_costs_no_further_wait(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check({**nets[net], "observe": "all"}, copies=2)


def test_a_step_that_starts_the_next_run_waits_once_more() -> None:
    env = here(2, "SameStep")
    masks = random_masks(env, 5, np.array([[0.4], [1.0]]))
    expected = [env.reset(seed=3), *map(env.step, masks)]
    with pretended() as log:
        env, waits = there(2, "SameStep"), []
        found = [env.reset(seed=3)]
        for mask in masks:
            log.clear()
            found.append(env.step(mask))
            waits.append(len(log.waits))
    assert_same(found, expected, CLOSE)
    assert waits == [1 + bool(step[2].any()) for step in found[1:]]
    assert 2 in waits


def test_twins_go_on_there_as_on_the_cpu() -> None:
    small = {"train_size": 48, "epochs": 3, "batch_size": 16, "twins": 2}
    env = DynPruneVectorEnv(4, "Disabled", device="cpu", learner="stacked", **small)
    masks = random_masks(env, 3, np.linspace(0.3, 1, 4)[:, None])
    expected = play(env, masks, seed=3)
    with pretended():
        found = play(DynPruneVectorEnv(4, "Disabled", device="pretend", **small), masks, seed=3)
    assert_same(found, expected, CLOSE)
