"""What is shown on a pretended accelerator, on a real one: CUDA plays the CPU's game."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import SMALL, assert_same, go_on, play, random_masks
from helpers.two_devices import GAMES, NETS, episode, here, some_actions, there

from dynprune_agents import make as make_rule
from dynprune_agents import names
from dynprune_env import run_episodes
from dynprune_env.common.tf32 import without_tf32
from dynprune_env.training import step_graphs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
CLOSE = 1e-2
"""Kernels of CUDA add in another order; a few epochs of training widen that."""
DRAWING = ("drawing", "streamed", "dropout")
"""What they drop, they draw from another generator than on the CPU."""


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    with without_tf32():
        yield


@contextmanager
def counted_waits() -> Iterator[list[str]]:
    """Grows by each operation for which the host waits."""
    waits: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        seen.clear()  # that it is a prototype
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits += [f"{w.filename}:{w.lineno}" for w in seen if "called a synch" in str(w.message)]


def check(settings: dict[str, Any]) -> None:
    """Plays here and there; there a reset waits once, and so does each step."""
    env = here(3, **settings)
    actions = some_actions(env, 5)
    expected = [*play(env, actions, seed=3), env.evaluate("test"), env.evaluate("train")]
    env = there(3, device="cuda", **settings)
    env.reset(seed=8)  # reads the data
    with counted_waits() as waits:
        found: list[Any] = [env.reset(seed=3)]
    assert len(waits) == 1, waits
    for action in actions[: len(expected) - 3]:
        with counted_waits() as waits:
            found.append(env.step(action))
        assert len(waits) == 1, waits
    found += [env.evaluate("test"), env.evaluate("train")]
    assert_same(found, expected, CLOSE)


@pytest.mark.parametrize("net", [net for net in NETS if net not in DRAWING])
def test_every_net_trains_as_on_the_cpu_and_a_step_waits_once(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check(nets[net])


@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_that_of_the_cpu_and_a_step_waits_once(game: str) -> None:
    check(GAMES[game])


@pytest.mark.parametrize("net", ["modules", "convolutional"])
def test_scoring_what_was_dropped_costs_no_further_wait(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check({**nets[net], "observe": "all"})


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.parametrize("net", ["convolutional", "residual", "modules"])
def test_bf16_is_near_and_compiled_code_gives_the_numbers_of_plain_code(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    settings = {**nets[net], "precision": "bf16", "epochs": 3}
    env = here(2, **{**settings, "precision": "fp32"})
    masks = random_masks(env, 3, 0.8)
    expected = [step[-1]["val_loss"] for step in play(env, masks, seed=3)[1:]]
    plain, compiled = (
        [
            step[-1]["val_loss"]
            for step in play(there(2, device="cuda", compile=code, **settings), masks, seed=3)[1:]
        ]
        for code in (False, True)
    )
    np.testing.assert_allclose(plain, expected, rtol=0.2)  # batch norm widens roundings
    np.testing.assert_allclose(compiled, plain, rtol=0.2)


@pytest.mark.parametrize("changes", [{}, {"averaging": 0.9}, {"precision": "bf16"}], ids=str)
def test_recorded_steps_are_those_of_the_plain_net_bit_for_bit(
    changes: dict[str, Any], nets: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []
    own = step_graphs.StepGraph._recorded

    def noted(self: Any, step: Any, batch: Any) -> Any:
        recorded.append(batch)
        return own(self, step, batch)

    monkeypatch.setattr(step_graphs.StepGraph, "_recorded", noted)
    settings = {**nets["residual"], "batch_size": 4, "epochs": 6, "deterministic": True, **changes}
    env = there(5, device="cuda", **settings)
    masks = random_masks(env, 6, np.linspace(0.4, 1, 5)[:, None])
    found = [play(env, masks, seed=seed) for seed in (3, 4)]
    assert len(recorded) == 5  # once for both episodes
    monkeypatch.setattr(step_graphs, "WARM_UP", 10**9)
    assert_same([play(env, masks, seed=seed) for seed in (3, 4)], found)


@pytest.mark.parametrize("net", ["convolutional", *DRAWING])
def test_the_same_seed_gives_the_same_run_where_it_is_deterministic(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    env = there(2, device="cuda", deterministic=True, **nets[net])
    masks = random_masks(env, 3, 0.7)
    first = play(env, masks, seed=3)
    assert_same(play(env, masks, seed=3), first)


@pytest.mark.parametrize("net", ["stacked", "convolutional", "several labels"])
@pytest.mark.parametrize("to_device", [True, False], ids=["to the device", "from the device"])
def test_a_run_saved_on_one_device_goes_on_on_another(
    net: str, to_device: bool, nets: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    settings, path = {**nets[net], "averaging": 0.8}, tmp_path / "run.pt"
    env = here(**settings)
    masks = random_masks(env, 3, 0.7)
    expected = play(env, masks, seed=3)[-1]
    made = [here(**settings), there(device="cuda", **settings)]
    run, other = made if to_device else reversed(made)
    play(run, masks[:2], seed=3)
    run.save(path)
    other.load(path)
    assert_same(go_on(other, masks[2:])[-1], expected, CLOSE)


@pytest.mark.parametrize("name", [name for name in names() if name != "sb3"])
def test_every_agent_chooses_there_as_on_the_cpu(name: str) -> None:
    expected = episode(name, here)
    found = episode(name, partial(there, device="cuda"))
    assert_same(found, expected, CLOSE)


def test_whole_runs_are_those_of_the_cpu() -> None:
    small = {name: value for name, value in SMALL.items() if name != "device"}
    runs, there_too = (
        run_episodes(
            "DynPrune-Digits-v0",
            make_rule("infobatch"),
            [0, 1],
            env_kwargs={"budget": 0.5, **small},
            device=device,
        )
        for device in ("cpu", "cuda")
    )
    for run, its_like in zip(there_too, runs, strict=True):
        assert "cpu" not in run.device
        assert run.visits == its_like.visits
        assert run.test_loss == pytest.approx(its_like.test_loss, abs=1e-3)
