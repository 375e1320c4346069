"""What a run pays and shows: rewards, observations, divergence, and the training itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.episodes import (
    assert_same,
    go_on,
    make,
    make_vector,
    play,
    random_masks,
    row_of,
    watch_passes,
)

from dynprune_env.common.randomness import Purpose, stream_seed
from dynprune_env.selection.observations import OBSERVATIONS
from dynprune_env.selection.rewards import REWARDS, TELESCOPING
from dynprune_env.tasks.models import make_model
from dynprune_env.tasks.recipes import Augmentation
from dynprune_env.tasks.registry import TASKS
from dynprune_env.training.loading import InputTable

FULL = np.ones(48)

# -- rewards and what is observed -----------------------------------------------------------------


@pytest.mark.parametrize("reward", [reward.__name__ for reward in TELESCOPING])
def test_rewards_are_differences_of_what_info_tells(reward: str, back_end: dict[str, Any]) -> None:
    env = make(reward=reward, **back_end)
    steps = play(env, random_masks(env, 4), seed=0)
    infos = [step[-1] for step in steps]
    for before, after, step in zip(infos, infos[1:], steps[1:], strict=False):
        expected = {
            "val_loss": before["val_loss"] - after["val_loss"],
            "val_accuracy": after["val_accuracy"] - before["val_accuracy"],
            "log_val_loss": np.log(before["val_loss"]) - np.log(after["val_loss"]),
            "train_loss": before["train_loss"] - after["train_loss"],
        }[reward]
        assert step[1] == pytest.approx(expected, abs=1e-12)
        assert expected != 0 or reward == "val_accuracy"
    name = reward.removeprefix("log_")
    rise = infos[-1][name] - infos[0][name]
    if reward != "log_val_loss":
        total = sum(step[1] for step in steps[1:])
        assert total == pytest.approx(rise if reward == "val_accuracy" else -rise)


@pytest.mark.parametrize(("reward", "sign"), [("final_accuracy", 1), ("final_loss", -1)])
def test_terminal_rewards_are_what_the_run_has_reached_paid_at_its_end_alone(
    reward: str, sign: int, back_end: dict[str, Any]
) -> None:
    env = make(reward=reward, **back_end)
    *steps, last = play(env, random_masks(env, 4), seed=0)[1:]
    assert [step[1] for step in steps] == [0] * 3
    assert last[2]
    assert last[1] == sign * last[-1][f"val_{reward.removeprefix('final_')}"] != 0


def test_info_tells_the_val_loss_and_the_mean_loss_of_the_visits(back_end: dict[str, Any]) -> None:
    env = make(**back_end)
    observation, info = env.reset(seed=0)
    assert info["train_loss"] == pytest.approx(np.log(env.dataset.info.num_classes))
    mask = random_masks(env, 1)[0]
    observation, *_, info = env.step(mask)
    assert info["train_loss"] == pytest.approx(observation["loss"][mask].mean(), rel=1e-5)
    logits = env.vector.trainer.learner.score("val", torch.arange(len(env.dataset.val)), [0])[0]
    labels = env.dataset.val.labels
    loss, right = F.cross_entropy(logits, labels), logits.argmax(1) == labels
    assert info["val_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert info["val_accuracy"] == pytest.approx(float(right.float().mean()))
    assert_same(env.evaluate("val")._asdict(), {k[4:]: info[k] for k in info if "val_" in k})


def test_only_visited_samples_are_rescored(back_end: dict[str, Any]) -> None:
    env = make(**back_end)
    before, _ = env.reset(seed=0)
    mask = random_masks(env, 1)[0]
    after, *_ = env.step(mask)
    for name in ("loss", "loss_mean", "confidence", "margin", "el2n"):
        np.testing.assert_array_equal(after[name][~mask], before[name][~mask])
        assert (after[name][mask] != before[name][mask]).all()


def test_observing_all_rescores_the_dropped_for_a_third_of_a_visit(
    back_end: dict[str, Any],
) -> None:
    env = make(observe="all", **back_end)
    env.reset(seed=0)
    mask = np.arange(48) < 12
    observation, _, _, _, info = env.step(mask)
    assert (info["run_visits"], info["scored"]) == (12, 36)
    assert info["spent"] == pytest.approx((12 + 36 / 3) / (0.5 * 4 * 48))
    assert info["saved"] == pytest.approx(1 - 24 / (4 * 48))
    np.testing.assert_array_equal(observation["visits"], mask)
    np.testing.assert_array_equal(observation["age"], ~mask)
    dropped = torch.arange(12, 48)
    logits = env.vector.trainer.learner.score("train", dropped, [0])[0]
    loss = F.cross_entropy(logits, env.dataset.train.labels[dropped], reduction="none")
    np.testing.assert_allclose(observation["loss"][12:], loss, rtol=1e-5)


def test_observing_all_trains_the_same_model_as_long_as_the_schedule_is_the_same() -> None:
    env, other = make(budget=1.0, observe="all"), make(budget=1.0)
    masks = random_masks(env, 4, 0.3)
    found, expected = play(env, masks, seed=0), play(other, masks, seed=0)
    for one, two in zip(found, expected, strict=True):
        assert one[-1]["val_loss"] == two[-1]["val_loss"]


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_the_test_split_reaches_nothing(observation: str, back_end: dict[str, Any]) -> None:
    env = make(observation=observation, observe="all", **back_end)
    masks = random_masks(env, 4)
    expected, score = play(env, masks, seed=0), env.evaluate("test")
    test = env.dataset.test
    kept = test.inputs.clone(), test.labels.clone()
    try:
        test.inputs.fill_(77)
        test.labels.fill_(0)
        assert_same(play(env, masks, seed=0), expected)
        assert env.evaluate("test") != score
    finally:
        test.inputs.copy_(kept[0])
        test.labels.copy_(kept[1])


# -- divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_a_diverged_run_ends_with_finite_numbers(
    observation: str, reward: str, back_end: dict[str, Any]
) -> None:
    env = make(learning_rate=1e6, budget=1.0, observation=observation, reward=reward, **back_end)
    steps = play(env, [FULL] * 9, seed=0)
    assert len(steps) < 5
    _, reward_at_end, terminated, truncated, info = steps[-1]
    assert (terminated, truncated, info["diverged"], info["val_loss"]) == (True, False, True, 20)
    assert not steps[0][-1]["diverged"]
    assert reward_at_end < 0 or reward.endswith(("accuracy", "train_loss"))
    for step in steps:
        assert step[0] in env.observation_space
        assert all(np.isfinite(value) for value in step[-1].values())
    assert np.isfinite([step[1] for step in steps[1:]]).all()


def test_a_sample_with_a_loss_that_is_no_number_counts_as_wrong(back_end: dict[str, Any]) -> None:
    env = make(learning_rate=1e30, budget=1.0, **back_end)
    observation, *_, info = play(env, [FULL] * 9, seed=0)[-1]
    assert info["diverged"]
    worst = observation["loss"] == 20
    assert worst.any()
    assert not observation["correct"][worst].any()
    assert (observation["confidence"][worst] < 1e-6).all()
    assert (observation["margin"][worst] < 0).all()


def test_the_run_after_a_diverged_one_is_as_good_as_new(back_end: dict[str, Any]) -> None:
    env = make(learning_rate=1e6, **back_end)
    play(env, [FULL] * 9, seed=0)
    other = make(learning_rate=1e6, **back_end)
    assert_same(play(env, [FULL], seed=1), play(other, [FULL], seed=1))


def test_a_diverged_replica_leaves_the_others_alone() -> None:
    def run(weight: float) -> list[Any]:
        env = make_vector(2, action="weights", weights="raw", budget=1.0, learning_rate=0.5)
        return play(env, [np.array([FULL * weight, FULL])] * 4, seed=0)

    wild, calm = run(100), run(1)
    assert wild[-1][-1]["diverged"].tolist() == [True, False]
    assert calm[-1][-1]["diverged"].tolist() == [False, False]
    assert_same(row_of(wild, 1), row_of(calm, 1), 1e-5)


# -- what training is -----------------------------------------------------------------------------


def plain_run(env: Any, passes: list[list[Any]], seed: int, scale: float | None) -> torch.nn.Module:
    """The same epochs in an ordinary PyTorch loop, from the same initial model.

    With `scale`, every gradient of the unweighted loss is multiplied by it instead.
    """
    recipe, source = env.settings.recipe, env.dataset.info
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, 0, Purpose.MODEL))
        model = make_model(env.settings.resolved.model, source.input_shape, source.num_classes)
    images, labels = env.dataset.train.inputs.float(), env.dataset.train.labels
    if source.mean:
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (source.mean, source.std))
        images = (images / 255 - mean) / std
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=1,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    criterion = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=recipe.label_smoothing)
    model.train()
    for (each,) in passes:
        batches = zip(each.order.split(16), each.weights.split(16), each.rates, strict=True)
        with torch.random.fork_rng():
            torch.manual_seed(each.seed)  # of dropout
            for ids, weights, rate in batches:
                losses = criterion(model(images[ids]), labels[ids])
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
                (losses if scale else weights * losses).mean().backward()
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.grad.mul_(scale or 1)
                optimizer.step()
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "weights", "scale"),
    [
        ("raw", np.ones(48), None),
        ("raw", np.full(48, 2.0), 2),
        ("raw", np.full(48, 0.5), 0.5),
        ("raw", np.linspace(0, 3, 48), None),
        ("raw", np.arange(48) % 3, None),
        ("mean_one", np.full(48, 2.0), 1),
        ("mean_one", np.linspace(0, 3, 48), None),
    ],
    ids=[
        "ones",
        "twos double the gradient",
        "halves halve it",
        "unequal",
        "two thirds kept",
        "twos of mean one are ones",
        "unequal ones of mean one",
    ],
)
def test_two_epochs_are_an_ordinary_pytorch_loop(
    kind: str,
    weights: np.ndarray,
    scale: float | None,
    back_end: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = back_end["task"]
    recipe = replace(TASKS[name].recipe, augmentation=Augmentation())
    monkeypatch.setitem(TASKS, name, replace(TASKS[name], recipe=recipe))
    env = make(action="weights", weights=kind, **back_end)
    _, info = env.reset(seed=0)
    passes = watch_passes(env)
    go_on(env, [weights] * 2)
    assert all(len(each.order) == np.count_nonzero(weights) for (each,) in passes)
    for (each,) in passes:
        size = weights[weights > 0].mean() if kind == "mean_one" else 1
        assert each.weights.numpy() == pytest.approx(weights[each.order] / size, rel=1e-5)

    model = plain_run(env, passes, info["run_seed"], scale)
    val = torch.arange(len(env.dataset.val))
    found = env.vector.trainer.learner.score("val", val, [0])[0]
    images = InputTable(env.dataset.val.inputs, env.dataset.info).batch(val)
    torch.testing.assert_close(found, model(images).detach(), rtol=1e-4, atol=1e-4)


def test_a_mask_as_weights_is_the_mask(back_end: dict[str, Any]) -> None:
    weights, mask = make(action="weights", **back_end), make(**back_end)
    masks = random_masks(mask, 4)
    assert_same(play(weights, masks.astype(float), seed=0), play(mask, masks, seed=0))
