"""Rendering through the environments: both modes, in the vector environment, on video."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from helpers.episodes import make, make_vector, random_masks

from dynprune_env.envs import env as env_module


def test_each_step_changes_the_panel_and_a_reset_starts_it_anew() -> None:
    env = make(render_mode="rgb_array", budget=1.0)
    env.reset(seed=0)
    panels = [env.render()]
    for mask in random_masks(env, 3):
        env.step(mask)
        panels.append(env.render())
    for before, after in pairwise(panels):
        assert before.shape == after.shape
        assert after.dtype == np.uint8
        assert (before != after).any()
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), panels[0])


def test_the_panel_shows_what_was_trained_not_what_was_asked_for() -> None:
    env = make(render_mode="rgb_array", budget=0.3)
    env.reset(seed=0)
    terminated = False
    while not terminated:
        terminated = env.step(np.ones(48, dtype=bool))[2]
    kept = [frame.kept.sum() for frame in env.vector._frames.rows[0]]
    assert kept == [0, 48, 10]  # a budget of round(0.3 * 4 * 48) = 58 visits


def test_without_a_render_mode_nothing_is_drawn_or_remembered() -> None:
    env = make()
    env.reset(seed=0)
    env.step(np.ones(48, dtype=bool))
    assert env.render() is None
    assert len(env.vector._frames.rows[0]) == 0


def test_the_vector_environment_draws_one_panel_per_row() -> None:
    envs = make_vector(2, render_mode="rgb_array")
    envs.reset(seed=0)
    envs.step(np.array([np.ones(48), np.zeros(48)]))
    one, other = envs.render()
    assert (one != other).any()


def test_human_mode_shows_every_panel_and_closes_its_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[np.ndarray | str] = []

    class FakeWindow:
        def show(self, panel: np.ndarray) -> None:
            shown.append(panel)

        def close(self) -> None:
            shown.append("closed")

    monkeypatch.setattr(env_module, "Window", FakeWindow)
    env = make(render_mode="human")
    env.reset(seed=0)
    env.step(np.ones(48, dtype=bool))
    assert env.render() is None
    env.close()
    env.close()
    assert len(shown) == 3
    assert shown[2] == "closed"


def test_human_mode_without_a_display_says_so_once_and_trains_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    env = make(render_mode="human")
    with caplog.at_level(logging.WARNING):
        env.reset(seed=0)
        env.step(np.ones(48, dtype=bool))
    (record,) = caplog.records
    assert 'render_mode="rgb_array"' in record.message


def test_record_video_writes_a_film(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = gym.make(
        "dynprune_env:DynPrune-Digits-v0", render_mode="rgb_array", train_size=48, epochs=3
    )
    with gym.wrappers.RecordVideo(env, str(tmp_path / "films"), disable_logger=True) as recorded:
        recorded.reset(seed=0)
        terminated = False
        while not terminated:
            terminated = recorded.step(np.ones(48, dtype=bool))[2]
    (film,) = tmp_path.glob("films/*.mp4")
    assert film.stat().st_size > 1000
