"""Recorded steps on the CPU, where a graph that replays what it recorded stands for CUDA's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make_vector, play, random_masks
from helpers.replayed import ReplayedGraph

from dynprune_env import DynPruneVectorEnv
from dynprune_env.tasks.registry import TASKS
from dynprune_env.training import module_learner
from dynprune_env.training.module_learner import ModuleLearner
from dynprune_env.training.step_graphs import StepGraph


class OneLane:
    """What `Lanes` of one stream are, without a stream."""

    def __init__(self, *_: Any):
        self.steps = WeakSet[StepGraph]()

    def recorded(self, row: int) -> WeakSet[StepGraph]:
        return self.steps

    @contextmanager
    def joined(self) -> Iterator[None]:
        yield

    @contextmanager
    def of(self, row: int) -> Iterator[None]:
        yield


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[ReplayedGraph]:
    """Those that were made."""
    made: list[ReplayedGraph] = []

    def graph() -> ReplayedGraph:
        made.append(ReplayedGraph())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(module_learner, "Lanes", OneLane)
    return made


def environment(settings: dict[str, Any]) -> DynPruneVectorEnv:
    """Two runs, with rates as tensors, as they are on CUDA."""
    env = make_vector(2, task="Pictures", batch_size=8, epochs=3, **settings)
    env.reset(seed=0)
    learner = env.trainer.learner
    assert isinstance(learner, ModuleLearner)
    learner.on_cpu = False
    return env


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"averaging": 0.9},
        {"recipe": {"optimizer": "adamw", "learning_rate": 0.01}},
        {"recipe": {"momentum": 0.0}},
        {"model": "resnet9(width=2)"},
    ],
    ids=str,
)
def test_steps_are_recorded_once_for_all_episodes_and_are_those_of_the_plain_net(
    settings: dict[str, Any],
    pictures: dict[str, Any],
    graphs: list[ReplayedGraph],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = replace(TASKS["Pictures"].recipe, **settings.get("recipe", {}))
    monkeypatch.setitem(TASKS, "Pictures", replace(TASKS["Pictures"], recipe=recipe))
    settings = {name: value for name, value in settings.items() if name != "recipe"}
    env = environment(settings)
    masks = random_masks(env, 3, np.array([[0.9], [0.7]]))
    found = [play(env, masks, seed=seed) for seed in (3, 4, 3)]
    assert_same(found[2], found[0])
    assert len(graphs) == 2
    assert sum(len(graph.operations) for graph in graphs) > 0
    monkeypatch.setattr("dynprune_env.training.step_graphs.WARM_UP", 10**9)
    plain = environment(settings)
    assert_same([play(plain, masks, seed=seed) for seed in (3, 4)], found[:2])
