"""What is lent comes back as it was: nobody's writing reaches what others read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, go_on, make, make_vector, play, random_masks, row_of
from torch import Tensor, nn

import dynprune_agents
from dynprune_env import (
    DynPruneEnv,
    DynPruneVectorEnv,
    Recipe,
    own_task,
    register_task,
    run_episodes,
)
from dynprune_env.tasks import registry
from dynprune_env.tasks.datasets import DIGITS
from dynprune_env.tasks.registry import TASKS
from dynprune_env.tasks.variants import Variant, load_dataset

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 8)) * 3 + 5).astype(np.float32)
Y = (X[:, 0] > 5).astype(np.int64)
PIXELS = RNG.integers(0, 120, (120, 1, 8, 8)) + 100 * (np.arange(120) % 2)[:, None, None, None]
ALIKE = Recipe(epochs=3, batch_size=32, learning_rate=0.05)


class InPlace(nn.Module):
    """Normalises its batch where it stands, and spoils its activations once they are used."""

    def __init__(self, inputs: int = 8, in_place: bool = True):
        super().__init__()
        self.first, self.last, self.in_place = nn.Linear(inputs, 16), nn.Linear(16, 2), in_place

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(5).div_(3) if self.in_place else (x - 5) / 3
        h = torch.tanh(self.first(x.flatten(1)))
        logits = self.last(h)
        if self.in_place and not torch.is_grad_enabled():
            x.zero_()
            h.zero_()
        return logits


class Rows(torch.utils.data.Dataset):
    """A map-style data set that hands out views of its own table."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y = torch.from_numpy(x.copy()), y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i], int(self.y[i])


def features(in_place: bool, stream: bool = False) -> Any:
    data: Any = ((X[:200], Y[:200]), (X[200:], Y[200:]))
    if stream:
        data = tuple(Rows(*pair) for pair in data)
    return own_task(*data, lambda: InPlace(8, in_place), ALIKE, stream=stream)


def pictures(in_place: bool) -> Any:
    x, y = PIXELS.astype(np.uint8), np.arange(120) % 2
    return own_task((x[:80], y[:80]), (x[80:], y[80:]), lambda: InPlace(64, in_place), ALIKE)


SOURCES: dict[str, Callable[[bool], Any]] = {
    "features": features,
    "streamed": lambda in_place: features(in_place, stream=True),
    "pictures of one channel": pictures,
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES)
def both(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of two games that are the same, but for a model that works in place."""
    monkeypatch.setitem(TASKS, "InPlace", request.param(True))
    monkeypatch.setitem(TASKS, "Careful", request.param(False))
    return tuple({"task": name, "device": "cpu"} for name in ("InPlace", "Careful"))


def masks_of(env: Any) -> np.ndarray:
    masks = random_masks(env, 3)
    masks[1] = True  # a pass over the whole table
    return masks


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_model_that_works_in_place_gives_the_numbers_of_one_that_does_not(
    both: Any, replicas: int
) -> None:
    found = []
    for settings in both:
        env = DynPruneVectorEnv(replicas, "Disabled", **settings, observe="all")
        steps = play(env, masks_of(env), seed=3)
        found.append([steps, *(env.evaluate(split) for split in ("train", "val", "test"))])
    assert_same(*found)


def test_a_registered_model_that_works_in_place_is_tried_and_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    monkeypatch.setattr(registry, "_OWN", dict(registry._OWN))
    register_task("InPlaceOwn", lambda: features(in_place=True))
    agent = dynprune_agents.make("full_data")
    results = run_episodes("DynPrune-InPlaceOwn-v0", agent, (0, 1), env_kwargs={"budget": 1.0})
    gym.registry.pop("DynPrune-InPlaceOwn-v0")
    assert min(result.test_accuracy for result in results) > 0.7


def test_runs_side_by_side_are_the_runs_alone_though_the_model_works_in_place(both: Any) -> None:
    company = DynPruneVectorEnv(4, "Disabled", **both[0])
    masks = masks_of(company)
    together = play(company, masks, seed=3)
    test = company.evaluate("test")
    for row in range(4):
        alone = DynPruneEnv(**both[0])
        assert_same(row_of(together, row), play(alone, masks[:, row], seed=3 + row))
        assert alone.evaluate("test") == (test.loss[row], test.accuracy[row])


def test_results_of_a_model_that_works_in_place_do_not_depend_on_company(both: Any) -> None:
    task, agent = both[0]["task"], dynprune_agents.make("full_data")
    given = {"task": task, "budget": 1.0}

    def accuracies(seeds: Any) -> list[float]:
        results = run_episodes("DynPrune-Digits-v0", agent, seeds, env_kwargs=given)
        return [result.test_accuracy for result in results]

    assert accuracies(range(4)) == [accuracies([seed])[0] for seed in range(4)]


def test_probes_and_scoring_runs_lend_every_model_its_own_inputs(both: Any) -> None:
    found = []
    for settings in both:
        env = DynPruneVectorEnv(2, "Disabled", **settings)
        env.reset(seed=3)
        env.step(np.ones(env.action_space.shape))
        probe, runs = env.episode([1, 2]).probe, env.scoring_runs([1, 2])
        seen = list(runs.run(0, 2))
        batches = [[x.clone(), y.clone()] for x, y in probe.batches(64)]
        found.append(
            [
                *(probe.losses(), probe.features(), probe.losses()),
                *(seen, runs.values(), runs.probabilities(), runs.gradient_norms(), batches),
            ]
        )
    assert_same(*found)


def test_who_writes_into_a_probes_batches_changes_nothing(both: Any) -> None:
    calm, busy = (DynPruneEnv(**both[1]) for _ in range(2))
    for env in (calm, busy):
        env.reset(seed=3)
        for inputs, labels in env.episode(0).probe.batches(len(env.dataset.train)):
            if env is busy:
                inputs.zero_()
                labels.zero_()
    mask = np.ones(calm.action_space.shape)
    assert_same(busy.step(mask), calm.step(mask))
    assert busy.evaluate("train") == calm.evaluate("train")


def test_a_module_that_hands_out_one_buffer_again_and_again_is_scored_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.held = nn.Linear(8, 2), {}

        def forward(self, x: Tensor) -> Tensor:
            logits = self.out(x)
            if torch.is_grad_enabled():
                return logits
            return self.held.setdefault(len(x), torch.empty_like(logits)).copy_(logits)

    many = np.tile(X, (9, 1)) + np.arange(2700, dtype=np.float32)[:, None] / 1000
    data = (many, np.tile(Y, 9))
    monkeypatch.setitem(TASKS, "Again", own_task(data, data, Again, ALIKE))
    env = DynPruneEnv(task="Again", device="cpu")
    env.reset(seed=0)
    probe, module = env.episode(0).probe, env.vector.trainer.learner.module(0)
    with torch.no_grad():
        logits = module.out(env.dataset.train.inputs)
    expected = nn.functional.cross_entropy(logits, env.dataset.train.labels, reduction="none")
    torch.testing.assert_close(torch.from_numpy(probe.losses()), expected)


# -- observations, actions, infos ---------------------------------------------------------------


def scribble(tree: Any) -> None:
    """Overwrites every array in a tree."""
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, np.ndarray) and value.dtype != object:
            value[...] = 1
        elif isinstance(value, dict | tuple | list | np.ndarray):
            scribble(value)


@pytest.mark.parametrize("mode", ["Disabled", "NextStep", "SameStep"])
@pytest.mark.parametrize("observation", ["samples", "summary"])
@pytest.mark.parametrize("action", ["mask", "weights"])
def test_who_writes_into_what_a_step_gave_or_took_changes_no_later_step(
    mode: str, observation: str, action: str, back_end: dict[str, Any]
) -> None:
    settings = {"observation": observation, "action": action, "observe": "all", **back_end}
    calm, busy = (make_vector(2, mode, **settings) for _ in range(2))
    masks = random_masks(calm, 6, np.array([0.9, 0.3])[:, None])
    expected = play(calm, masks, seed=5)
    buffer = np.empty(masks[0].shape, dtype=np.float32)  # one array for all actions
    found = [busy.reset(seed=5)]
    for step, mask in enumerate(masks[: len(expected) - 1]):
        assert_same(found[-1], expected[step])
        scribble(found[-1])
        buffer[...] = mask
        found.append(busy.step(buffer))
        np.testing.assert_array_equal(buffer, mask)
        buffer[...] = 1
        scribble(busy.evaluate("val"))
    assert_same(found[-1], expected[-1])
    assert_same(busy.get_state(), calm.get_state())


@pytest.mark.parametrize("observation", ["samples", "summary"])
def test_what_a_step_gave_stays_as_it_was(observation: str, back_end: dict[str, Any]) -> None:
    env = make_vector(2, observation=observation, **back_end)
    masks = random_masks(env, 4)
    kept = play(env, masks[:2], seed=5)
    before = [[np.copy(value) for value in tree_leaves(step)] for step in kept]
    go_on(env, masks[2:])
    env.reset(seed=6)
    assert_same([tree_leaves(step) for step in kept], before)


def tree_leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict | tuple):
        values = tree.values() if isinstance(tree, dict) else tree
        return [leaf for value in values for leaf in tree_leaves(value)]
    return [tree]


def test_the_table_of_statistics_is_for_reading_only() -> None:
    env = make()
    env.reset(seed=0)
    statistics = env.vector.trainer.statistics
    for table in (statistics.loss, statistics.visits, statistics.labels):
        with pytest.raises(ValueError, match="read-only"):
            table[...] = 0
    columns = statistics.columns(env.vector.trainer.budget.epoch)
    scribble(columns)
    assert statistics.loss.min() == statistics.loss.max() == np.float32(np.log(10))


def test_a_scoring_run_trains_on_the_mask_as_it_was_given() -> None:
    env = make()
    env.reset(seed=0)
    mask = np.arange(48) < 24
    (calm, busy) = (env.scoring_runs(0) for _ in range(2))
    expected = list(calm.run(0, 3, mask.copy()))
    found, run = [], busy.run(0, 3, mask)
    mask[...] = True
    for observation in run:
        found.append({name: column.copy() for name, column in observation.items()})
        scribble(observation)
    assert_same(found, expected)


# -- data, models, states -----------------------------------------------------------------------


def test_who_writes_into_the_data_for_analysis_changes_no_run(back_end: dict[str, Any]) -> None:
    masks = random_masks(make(**back_end), 3)
    expected = play(make(**back_end), masks, seed=5)
    env = make(**back_end)
    env.reset(seed=5)
    data = env.dataset
    untouched = env.vector.trainer.dataset
    before = untouched.train.labels.clone()
    try:
        for split in (data.train, data.val):
            split.inputs.zero_()
            split.labels.zero_()
        for known in (data.clean_labels, data.redrawn, data.duplicate_of):
            known[...] = 0
        torch.testing.assert_close(untouched.train.labels, before)
        assert_same(go_on(env, masks), expected[1:])
        assert_same(play(make(**back_end), masks, seed=5), expected)
    finally:
        vars(untouched).pop("apart")  # other tests look at it


def test_the_data_for_analysis_are_those_of_the_runs() -> None:
    env = make(label_noise=0.3, duplicates=0.2)
    env.reset(seed=0)
    assert_same(vars(env.dataset.train), vars(env.vector.trainer.dataset.train))
    assert env.dataset.redrawn.sum() == 14
    assert env.fork().dataset is env.dataset
    data = load_dataset(DIGITS, Variant(), None, False, torch.device("cpu"))
    assert "apart" not in vars(data) or data.apart is not data


def test_arrays_that_became_a_task_may_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [X[:200].copy(), Y[:200].copy(), X[200:].copy(), Y[200:].copy()]
    found = []
    for spoil in (False, True):
        task = own_task(tuple(arrays[:2]), tuple(arrays[2:]), lambda: InPlace(), ALIKE)
        monkeypatch.setitem(TASKS, "Own", task)
        env = DynPruneEnv(task="Own", device="cpu")
        if spoil:
            scribble(arrays)
        env.reset(seed=0)
        env.step(np.ones(env.action_space.shape))
        found.append([env.evaluate("train"), env.evaluate("val"), env.evaluate("test")])
    assert_same(*found)


def test_copies_of_models_are_copies(back_end: dict[str, Any]) -> None:
    calm, busy = (make_vector(2, averaging=0.9, **back_end) for _ in range(2))
    masks = random_masks(calm, 4)
    for env in (calm, busy):
        play(env, masks[:2], seed=5)
    probe = busy.episode([1, 2]).probe
    for model in (*probe.models(), *probe.models(averaged=True)):
        model.train()
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data.zero_()
    assert_same(go_on(busy, masks[2:]), go_on(calm, masks[2:]))
    assert_same(busy.get_state(), calm.get_state())


def spoil(tree: Any) -> None:
    """Overwrites every tensor in a state."""
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, Tensor):
            value.zero_()
        elif isinstance(value, dict | list):
            spoil(value)


def test_a_state_set_into_two_environments_ties_nothing_together(back_end: dict[str, Any]) -> None:
    settings = {"averaging": 0.9, **back_end}
    env, one, other = (make_vector(2, **settings) for _ in range(3))
    masks = random_masks(env, 5)
    play(env, masks[:2], seed=5)
    state = env.get_state()
    one.set_state(state)
    other.set_state(state)
    other.set_state(state)
    go_on(one, masks[3:])
    spoil(state)
    expected = go_on(env, masks[2:4])
    assert_same(go_on(other, masks[2:4]), expected)
    assert_same(other.get_state(), env.get_state())
