"""A run is a function of its seed and its actions, alone or in replica_seeds."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from helpers.episodes import (
    assert_same,
    differs,
    go_on,
    make,
    make_vector,
    play,
    random_masks,
    row_of,
    watch_passes,
)
from torch import nn

from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.statistics import sample_values
from dynprune_env.tasks.models import MODELS
from dynprune_env.tasks.recipes import NO_AUGMENTATION
from dynprune_env.tasks.registry import TASKS
from dynprune_env.training import stacked_learner
from dynprune_env.training.numba_learner import NumbaLearner

# Stacked matrix products round differently from single ones; the others are the same bit for bit.
ROUNDING = {
    "numba": 0.0,
    "stacked": 1e-5,
    "modules": 0.0,
    "convolutional": 0.0,
    "own model": 0.0,
}

# Shares of kept samples for four replicas: under a budget of a half the first ends after two
# epochs, the second after three, the others after four.
UNEQUAL = np.array([1.0, 0.8, 0.4, 0.05])[:, None]


@pytest.fixture
def rounding(request: pytest.FixtureRequest) -> float:
    """What a row of the vector environment may differ from a single one, by `back_end`."""
    return ROUNDING[request.node.callspec.params["back_end"]]


def global_states() -> list[Any]:
    return [random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()]


def meddle() -> None:
    """What foreign code may do between two calls."""
    random.seed(random.random())
    np.random.seed(np.random.randint(1000))
    torch.manual_seed(int(torch.randint(1000, (1,))))


def test_the_same_seed_gives_the_same_run_whatever_else_draws(back_end: dict[str, Any]) -> None:
    masks = random_masks(make(**back_end), 4)
    expected = play(make(**back_end), masks, seed=5)
    meddle()
    env = make(**back_end)
    found = [env.reset(seed=5)]
    for mask in masks:
        meddle()
        found.append(env.step(mask))
    assert_same(found, expected)


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_that_draw_are_repeated_by_the_same_seed_only(action: str) -> None:
    env, other = make(action=action), make(action=action)
    middle = np.full((3, *env.action_space.shape), 0.0 if action != "weights" else 0.5)
    middle = middle.astype(np.int8) if action == "mask" else middle
    first = play(env, middle, seed=5)
    meddle()
    assert_same(play(other, middle, seed=5), first)
    assert differs(play(other, middle, seed=6), first)


def test_the_global_generators_are_left_as_they_were(back_end: dict[str, Any]) -> None:
    meddle()
    before = global_states()
    env = make(**back_end)
    play(env, random_masks(env, 4), seed=5)
    env.evaluate("test")
    env.fork()
    assert_same(global_states(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_global_cuda_generator_is_left_as_it_was(back_end: dict[str, Any]) -> None:
    torch.cuda.manual_seed_all(3)
    before = torch.cuda.get_rng_state_all()
    env = make(**{**back_end, "device": "cuda"})
    play(env, random_masks(env, 4), seed=5)
    assert_same(torch.cuda.get_rng_state_all(), before)


def test_seeds_differ_in_the_model_and_in_the_order(back_end: dict[str, Any]) -> None:
    orders, losses = [], []
    for seed in range(3):
        env = make(**back_end)
        losses.append(env.reset(seed=seed)[1]["val_loss"])
        passes = watch_passes(env)
        env.step(np.ones(48))
        env.step(np.ones(48))
        orders += [tuple(each[0].order.tolist()) for each in passes]
    assert len(set(losses)) == 3
    assert len(set(orders)) == 6


def test_episodes_without_a_seed_go_on_from_the_last_seed() -> None:
    one, other = make(), make()
    masks = random_masks(one, 4)
    first, second = play(one, masks, seed=5), play(one, masks)
    play(other, masks[:1], seed=5)
    assert_same(play(other, masks), second)
    assert differs(first, second)


def test_a_row_is_the_single_environment_of_its_seed(
    back_end: dict[str, Any], rounding: float
) -> None:
    env = make_vector(4, **back_end)
    masks = random_masks(env, 4, UNEQUAL)
    steps = play(env, masks, seed=7)
    lengths = []
    for row in range(4):
        alone = play(make(**back_end), masks[:, row], seed=7 + row)
        lengths.append(len(alone) - 1)
        assert_same(row_of(steps, row), alone, rounding)
    assert lengths == [2, 3, 4, 4]


def test_rows_are_the_same_beyond_one_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_vector(5, learner="stacked")
    masks = random_masks(env, 4, np.linspace(0.1, 1, 5)[:, None])
    expected = play(env, masks, seed=7)
    monkeypatch.setattr(stacked_learner, "STACK", 2)
    assert_same(play(make_vector(5, learner="stacked"), masks, seed=7), expected, 1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"label_smoothing": 0.2},
        {"momentum": 0.0},
        {"weight_decay": 0.0},
        {"label_smoothing": 0.1, "weight_decay": 0.05},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["mlp(width=16)", "mlp(width=8, depth=3)", "mlp(depth=0)"])
@pytest.mark.parametrize("fast", ["numba", "stacked"])
def test_all_learners_train_alike(
    fast: str, changed: dict[str, float], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = TASKS["Digits"]
    recipe = replace(digits.recipe, **changed)
    monkeypatch.setitem(TASKS, "Digits", replace(digits, recipe=recipe))
    weights = np.random.default_rng(0).uniform(0, 3, (4, 4, 48))
    weights[random_masks(make_vector(4), 4, 1 - UNEQUAL)] = 0

    small = make_vector(4, model=model, action="weights", learner=fast)
    expected = play(small, weights, seed=7)
    assert type(small.trainer.learner).__name__ == f"{fast.title()}Learner"
    modules = make_vector(4, model=model, action="weights", learner="modules")
    assert_same(play(modules, weights, seed=7), expected, 1e-5)

    for row, module in enumerate(modules.trainer.learner.models):
        flat = torch.cat([p.detach().t().reshape(-1) for p in module.parameters()])
        torch.testing.assert_close(
            small.trainer.learner.parameters[row], flat, rtol=1e-5, atol=1e-5
        )


def test_compiled_passes_over_pixels_are_the_plain_ones(
    pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(TASKS["Pictures"].recipe, augmentation=NO_AUGMENTATION)
    monkeypatch.setitem(TASKS, "Pictures", replace(TASKS["Pictures"], recipe=plain))
    settings = {**pictures, "model": "mlp(width=8)"}
    masks = np.random.default_rng(0).random((4, 3, 48)) < np.array([0.2, 0.6, 1])[:, None]
    fast = make_vector(3, **settings)
    expected = play(fast, masks, seed=7)
    assert isinstance(fast.trainer.learner, NumbaLearner)
    plain_way = make_vector(3, **settings, learner="stacked")
    assert_same(play(plain_way, masks, seed=7), expected, 1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    envs = make_vector(5)
    masks = random_masks(envs, 4, np.linspace(0.1, 1, 5)[:, None])
    expected = play(envs, masks, seed=7)
    envs.trainer.learner.threads = threads
    assert_same(play(envs, masks, seed=7), expected)


def given_infos(infos: dict[str, Any]) -> dict[str, Any]:
    """Gymnasium's vector infos without what their masks leave out."""
    given = {}
    for name in [name for name in infos if not name.startswith("_")]:
        value, mask = infos[name], infos[f"_{name}"]
        given[f"_{name}"] = mask
        given[name] = given_infos(value) if isinstance(value, dict) else value[mask]
    return given


@pytest.mark.parametrize("mode", AutoresetMode)
def test_autoreset_is_gymnasiums(
    mode: AutoresetMode, back_end: dict[str, Any], rounding: float
) -> None:
    ours = make_vector(4, mode, **back_end)
    theirs = SyncVectorEnv([lambda: make(**back_end)] * 4, autoreset_mode=mode)
    masks = random_masks(ours, 10, UNEQUAL)
    pairs = [(ours.reset(seed=7), theirs.reset(seed=7))]
    ends = np.zeros(4, dtype=int)
    for mask in masks:
        pairs.append((ours.step(mask), theirs.step(mask)))
        ended = pairs[-1][0][2]
        ends += ended
        if mode is AutoresetMode.DISABLED and ended.any():
            pairs.append(
                tuple(env.reset(options={"reset_mask": ended.copy()}) for env in (ours, theirs))
            )
    for (*found, found_infos), (*expected, expected_infos) in pairs:
        assert_same(found, expected, rounding)
        assert_same(given_infos(found_infos), given_infos(expected_infos), rounding)
    assert (ends > 1).all()
    final = [name for _, infos in (pair[0][-2:] for pair in pairs) for name in infos]
    assert ("final_info" in final) == ("final_obs" in final) == (mode is AutoresetMode.SAME_STEP)


def test_without_autoreset_a_finished_row_stays_as_it_is(back_end: dict[str, Any]) -> None:
    env = make_vector(2, **back_end)
    play(env, random_masks(env, 2, np.array([[1.0], [0.5]])), seed=7)
    ids = torch.arange(48)
    stopped = row_of([env.step(np.ones((2, 48)))], 0)
    logits = env.trainer.learner.score("train", ids, [0])
    assert stopped[0][1:4] == (0.0, True, False)
    env.reset(options={"reset_mask": np.array([False, True])}, seed=[None, 20])
    for share in (1, 0):
        assert_same(row_of([env.step(np.full((2, 48), share))], 0), stopped)
    assert_same(env.trainer.learner.score("train", ids, [0]), logits)


def test_two_masks_under_one_seed_share_the_order_and_the_noise(back_end: dict[str, Any]) -> None:
    env = make_vector(2, **back_end)
    env.reset(seed=[9, 9])
    passes = watch_passes(env)
    for masks in random_masks(env, 2, 0.6):
        env.step(masks)
        one, other = passes[-1]
        shared = masks.all(0)
        assert 0 < shared.sum() < min(len(one.order), len(other.order))
        here, there = (shared[each.order] for each in (one, other))
        np.testing.assert_array_equal(one.order[here], other.order[there])
        if back_end["task"] == "Pictures":
            np.testing.assert_array_equal(one.noise[here], other.noise[there])
            assert len(one.noise.unique(dim=0)) > 5
        else:
            assert one.noise is None
    assert not np.array_equal(passes[0][0].order, passes[1][0].order)


def test_rows_go_on_alone_after_a_partial_reset(back_end: dict[str, Any], rounding: float) -> None:
    env = make_vector(2, **back_end)
    masks = random_masks(env, 4, 0.4)
    play(env, masks[:2], seed=7)
    env.reset(seed=[None, 30], options={"reset_mask": np.array([False, True])})
    steps = go_on(env, masks[2:])
    first = play(make(**back_end), masks[:, 0], seed=7)[3:]
    second = play(make(**back_end), masks[2:, 1], seed=30)[1:]
    assert_same(row_of(steps, 0), first, rounding)
    assert_same(row_of(steps, 1), second, rounding)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_cudnn_repeats_itself_while_a_model_computes_if_that_is_wanted(
    wanted: bool, before: bool, pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    class Watched(nn.Flatten):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.backends.cudnn.deterministic)
            return super().forward(x)

    def model(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(Watched(), nn.Linear(int(np.prod(input_shape)), classes))

    monkeypatch.setitem(MODELS, "watched", model)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", before)
    env = make(**pictures, model="watched", deterministic=wanted)
    play(env, random_masks(env, 1), seed=3)
    assert set(seen) == {wanted or before}
    assert torch.backends.cudnn.deterministic is before


def test_a_state_goes_on_whether_or_not_cudnn_repeats_itself() -> None:
    one, other = make(), make(deterministic=True)
    masks = random_masks(one, 2)
    play(one, masks[:1], seed=3)
    other.reset(seed=0)
    other.set_state(one.get_state())
    assert_same(other.step(masks[1]), one.step(masks[1]))


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("learner", ["numba", "stacked", "modules"])
def test_a_split_is_evaluated_as_its_logits_say(learner: str, split: str) -> None:
    env = make_vector(3, learner=learner)
    play(env, random_masks(env, 2, UNEQUAL[:3]), seed=7)
    engine = env.trainer.learner
    labels = getattr(env.trainer.dataset, split).labels
    found = engine.evaluate(split, labels, [2, 0]).numpy()
    logits = engine.score(split, torch.arange(len(labels)), [2, 0])
    for row, own in enumerate(logits):
        values = sample_values(own, labels)
        np.testing.assert_array_equal(found[:, row], [values.loss, values.correct])
