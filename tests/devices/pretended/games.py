"""On an accelerator the numbers are the CPU's, nothing mixes, and a step waits for it once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, play, random_masks
from helpers.pretend_device import MISSING, Log, pretended
from helpers.two_devices import CLOSE, GAMES, NETS, here, some_actions, there

from dynprune_env import DynPruneVectorEnv, RelativeRewards
from dynprune_env.common.transfer import along, put
from dynprune_env.selection.rewards import REWARDS

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def check(settings: dict[str, Any]) -> None:
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
            before = seen_samples(env)
            found.append(env.step(action))
            assert len(log.waits) == 1, log.waits
            seen = seen_samples(env) - before
            val = env.trainer.running.sum() * len(env.trainer.dataset.val)
            fields = len(env.trainer.statistics.fields)
            assert log.fetched == [4 * fields * seen + 8 * val]  # as docs/speed.md says
            assert all(copy.non_blocking for copy in log.copies)
            if settings.get("task") != "Streamed":  # whose batches a DataLoader pins
                assert len(log.copies) == 1
                assert all(copy.pinned for copy in log.copies)
        found += [env.evaluate("test"), env.evaluate("train")]
    assert_same(found, expected, CLOSE)


def seen_samples(env: DynPruneVectorEnv) -> int:
    """Visits so far, and samples that were only scored."""
    budget = env.trainer.budget
    return int(budget.visits.sum() + budget.scored.sum())


def counted(env: Any, actions: Any, log: Log) -> tuple[list[Any], list[int]]:
    """What reset and steps gave, and how often each of these steps waited."""
    found, waits = [env.reset(seed=3)], []
    for action in actions:
        log.clear()
        found.append(env.step(action))
        waits.append(len(log.waits))
    return found, waits


@pytest.mark.parametrize("net", NETS)
def test_every_net_trains_as_on_the_cpu_and_a_step_copies_and_waits_once(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check(nets[net])


@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_that_of_the_cpu_and_a_step_waits_once(game: str) -> None:
    check(GAMES[game])


@pytest.mark.parametrize("net", ["modules", "convolutional", "streamed"])
def test_scoring_what_was_dropped_costs_no_further_wait_and_no_further_copy(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check({**nets[net], "observe": "all"})


@pytest.mark.parametrize("columns", [(), ("loss",), ("el2n", "forgetting")], ids=str)
def test_runs_that_keep_few_columns_are_those_of_the_cpu(columns: tuple[str, ...]) -> None:
    check({"columns": columns})


@pytest.mark.parametrize("reward", REWARDS)
def test_every_reward_is_that_of_the_cpu(reward: str) -> None:
    check({"reward": reward})


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_a_step_that_starts_the_next_run_waits_once_more(mode: str) -> None:
    env = here(2, mode)
    masks = random_masks(env, 6, np.array([[0.4], [1.0]]))
    expected = [env.reset(seed=3), *map(env.step, masks)]
    with pretended() as log:
        found, waits = counted(there(2, mode), masks, log)
    assert_same(found, expected, CLOSE)
    ended = [False, *(bool(step[2].any()) for step in found[1:])]
    begins = ended[1:] if mode == "SameStep" else ended[:-1]
    assert waits == [1 + begin for begin in begins]
    assert 2 in waits


def test_a_single_environments_step_waits_once() -> None:
    masks = random_masks(make(), 4, 0.7)
    expected = play(make(learner="stacked"), masks, seed=3)
    with pretended() as log:
        found, waits = counted(make(device="pretend"), masks, log)
    assert_same(found, expected, CLOSE)
    assert waits == [1] * 4


@pytest.mark.parametrize("relative", [None, "rank", "mean", "random"])
def test_twins_go_on_there_as_on_the_cpu_and_a_step_waits_once(relative: str | None) -> None:
    def made(device: str) -> Any:
        small = {"train_size": 48, "epochs": 3, "batch_size": 16, "twins": 2}
        env = DynPruneVectorEnv(4, "Disabled", device=device, learner="stacked", **small)
        return env if relative is None else RelativeRewards(env, relative)

    masks = random_masks(made("cpu"), 3, np.linspace(0.3, 1, 4)[:, None])
    expected = play(made("cpu"), masks, seed=3)
    with pretended() as log:
        found, waits = counted(made("pretend"), masks[: len(expected) - 1], log)
    assert_same(found, expected, CLOSE)
    assert set(waits) == {1}


def test_arrays_go_along_with_the_first_copy_or_by_themselves() -> None:
    ids, array, device = np.arange(5), np.ones(3, dtype=np.float32), torch.device("pretend:0")
    with pretended() as log:
        with along([ids], device) as carried:
            put([array], torch.device("cpu"))
            assert not carried
            assert [len(own) for own in put([array], device)] == [3]
            assert len(put([array], device)) == 1
        with along([ids], device) as alone:
            pass
        put([array], device)
        assert [copy.nbytes for copy in log.copies] == [16 + 48, 16, 48, 16]
        for (own,) in (carried, alone):
            assert own.cpu().tolist() == ids.tolist()
    with along([ids], torch.device("cpu")) as (shared,):
        assert np.shares_memory(shared.numpy(), ids)
