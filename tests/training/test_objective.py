"""Tasks of several labels a sample and of numbers play the same game; columns are as by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils import env_checker
from helpers.episodes import assert_same, go_on, play, random_masks
from helpers.other_losses import (
    OWN,
    TASKS,
    diabetes,
    every_task,
    linear,
    multi_label,
    properties,
    recipe,
    registered,
    regression,
    unwrapped,
)
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from torch import nn

import dynprune_agents
from dynprune_env import DynPruneVectorEnv, Settings, own_task, run_episodes
from dynprune_env.benchmark.identity import fingerprint
from dynprune_env.selection.statistics import MAX_LOSS
from dynprune_env.tasks.registry import Task
from dynprune_env.training.objective import Objective


@pytest.fixture(params=sorted(TASKS))
def other(request: pytest.FixtureRequest) -> Iterator[str]:
    """An environment of each kind."""
    with registered(TASKS[request.param]) as env:
        yield env


def predicted(env: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and labels of a split, (n, k) float64 each, by a plain forward pass."""
    data = getattr(env.dataset, split)
    with torch.no_grad():
        outputs = env.trainer.learner.module(0).eval()(data.inputs)
    labels = data.labels.reshape(len(data), -1)
    return outputs.reshape(labels.shape).double().numpy(), labels.double().numpy()


def by_hand(outputs: np.ndarray, labels: np.ndarray, several: bool) -> dict[str, np.ndarray]:
    """The columns of each sample."""
    if not several:
        loss = ((outputs - labels) ** 2).mean(1)
        p = np.exp(-loss)
        return {
            "loss": loss,
            "confidence": p,
            "margin": np.log(p / (1 - p)),
            "el2n": np.sqrt(2) * (1 - p),
            "correct": (loss < np.log(2)).astype(float),
        }
    p = 1 / (1 + np.exp(-outputs))
    right = np.where(labels == 1, p, 1 - p)
    return {
        "loss": -np.log(right).mean(1),
        "confidence": right.prod(1) ** (1 / right.shape[1]),
        "margin": np.where(labels == 1, outputs, -outputs).min(1),
        "el2n": np.sqrt(2 * ((p - labels) ** 2).mean(1)),
        "correct": ((p > 0.5) == (labels == 1)).all(1).astype(float),
    }


# -- the game -----------------------------------------------------------------------------------


def test_gymnasium_finds_nothing_in_it(other: str) -> None:
    env_checker.check_env(unwrapped(other), skip_render_check=True)


@every_task
def test_every_column_is_as_by_hand(kind: str) -> None:
    with registered(TASKS[kind]) as name:
        trained = unwrapped(name, budget=1.0, learning_rate=0.05)
        play(trained, [np.ones(108)] * 4, seed=0)
        env = unwrapped(name, learning_rate=1e-12, budget=1.0)
        env.reset(seed=0)
        state = trained.trainer.learner.module(0).state_dict()
        env.trainer.learner.models[0].load_state_dict(state)
        observation, *_ = env.step(np.ones(env.action_space.shape, dtype=bool))
        expected = by_hand(*predicted(env, "train"), kind == "multi_label")
        for column, values in expected.items():
            np.testing.assert_allclose(observation[column], values, rtol=1e-3, atol=1e-5)
        assert 0 < observation["correct"].mean() < 1
        assert not observation["label"].any()
        assert observation["task_size"].tolist() == [4, 2]


def test_loss_and_accuracy_of_several_labels_are_those_of_scikit_learn() -> None:
    with registered(multi_label) as name:
        env = unwrapped(name, budget=1.0)
        play(env, [np.ones(108)] * 4, seed=0)
        for split in ("train", "val", "test"):
            outputs, labels = predicted(env, split)
            loss, accuracy = env.evaluate(split)
            p = 1 / (1 + np.exp(-outputs))
            means = [log_loss(labels[:, j], p[:, j], labels=[0, 1]) for j in range(3)]
            assert loss == pytest.approx(np.mean(means), rel=1e-4)
            assert accuracy == pytest.approx(accuracy_score(labels, p > 0.5))


@pytest.mark.parametrize("outputs", [1, 2])
def test_loss_and_accuracy_of_numbers_are_those_of_scikit_learn(outputs: int) -> None:
    (x, y), (test_x, test_y) = diabetes()
    if outputs == 2:
        y, test_y = np.stack([y, x[:, 2]], 1), np.stack([test_y, test_x[:, 2]], 1)
    task = partial(
        own_task, (x, y), (test_x, test_y), partial(linear, 10, outputs), recipe(loss="mse")
    )
    with registered(task) as name:
        env = unwrapped(name, budget=1.0, learning_rate=0.05)
        play(env, [np.ones(108)] * 4, seed=0)
        for split in ("train", "val", "test"):
            found, labels = predicted(env, split)
            loss, accuracy = env.evaluate(split)
            assert loss == pytest.approx(mean_squared_error(labels, found), rel=1e-4)
            r2 = r2_score(labels, found, multioutput="variance_weighted")
            assert accuracy == pytest.approx(max(0, r2), abs=1e-5)
        assert accuracy > 0.1


def test_a_model_worse_than_the_mean_has_an_accuracy_of_zero() -> None:
    with registered(regression) as name:
        env = unwrapped(name)
        env.reset(seed=0)
        with torch.no_grad():
            env.trainer.learner.models[0][-1].bias.fill_(-3.0)
        assert env.evaluate("test").accuracy == 0.0


def test_one_of_several_labels_alone_has_the_columns_of_two_classes() -> None:
    z = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 4
    labels = torch.arange(50) % 2
    one = Objective("bce", "several labels", 0.0, None, {})
    two = Objective("cross_entropy", "classes", 0.0, None, {})
    found = one.table(z[:, None], labels[:, None].float())
    expected = two.table(torch.stack([torch.zeros_like(z), z], 1), labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_samples_not_seen_carry_the_values_of_a_prediction_that_knows_nothing() -> None:
    with registered(multi_label) as name:
        env = unwrapped(name)
        seen, _ = env.reset(seed=0)
        assert seen["loss"] == pytest.approx(np.log(2))
        assert seen["confidence"] == pytest.approx(0.5)
        assert seen["el2n"] == pytest.approx(np.sqrt(0.5))
        assert env.trainer.train_loss == pytest.approx(np.log(2))
    with registered(regression) as name:
        env = unwrapped(name)
        seen, _ = env.reset(seed=0)
        variance = env.dataset.train.labels.numpy().var()
        assert seen["loss"] == pytest.approx(variance, rel=1e-5)
        assert seen["loss_mean"] == pytest.approx(variance, rel=1e-5)
        assert seen["confidence"] == pytest.approx(np.exp(-variance), rel=1e-5)
        assert env.trainer.train_loss == pytest.approx(variance, rel=1e-5)


def test_training_lowers_the_loss_and_raises_the_accuracy(other: str) -> None:
    env = unwrapped(other, budget=1.0, learning_rate=0.05)
    n = env.action_space.n
    steps = play(env, [np.ones(n)] * 4, seed=0)
    first, last = steps[0][-1], steps[-1][-1]
    assert last["val_loss"] < first["val_loss"]
    assert last["val_accuracy"] > first["val_accuracy"]


def test_a_step_descends_the_weighted_mean_of_the_losses(other: str) -> None:
    env = unwrapped(other, action="weights", weights="raw", budget=1.0)
    n = env.action_space.shape[0]
    weights = np.zeros(n, dtype=np.float32)
    weights[:16] = np.linspace(0.5, 2, 16)
    env.reset(seed=3)
    model = env.trainer.learner.module(0).train()
    rate = env.trainer.recipe.rate(np.array([0.125]))[0]  # one batch, of an epoch of four
    optimizer = torch.optim.Adam(model.parameters(), rate, weight_decay=5e-4)
    data = env.dataset.train
    labels = data.labels[:16].reshape(16, -1)
    outputs = model(data.inputs[:16]).reshape(labels.shape)
    if env.settings.recipe.loss == "bce":
        p = torch.sigmoid(outputs)
        losses = -(labels * p.log() + (1 - labels) * (1 - p).log())
    else:
        losses = (outputs - labels) ** 2
    (losses.mean(1) * torch.from_numpy(weights[:16])).mean().backward()
    optimizer.step()
    env.step(weights)
    trained = env.trainer.learner.module(0)
    for one, two in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("observation", ["samples", "summary", "run"])
@pytest.mark.parametrize("action", ["mask", "weights", "quantiles", "strategy", "tilts"])
def test_all_observations_lie_in_their_space_under_all_actions(
    observation: str, action: str, other: str
) -> None:
    env = unwrapped(other, observation=observation, action=action)
    env.action_space.seed(0)
    for step in play(env, [env.action_space.sample() for _ in range(4)], seed=0):
        assert step[0] in env.observation_space


def test_a_run_goes_on_from_a_state_and_a_file_and_a_fork(other: str, tmp_path: Path) -> None:
    env = unwrapped(other)
    masks = random_masks(env, 4, 0.4)
    expected = play(env, masks, seed=0)[3:]
    play(env, masks[:2], seed=0)
    fork = env.fork()
    env.save(tmp_path / "run.pt")
    assert_same(go_on(fork, masks[2:]), expected)
    again = unwrapped(other)
    again.load(tmp_path / "run.pt")
    assert_same(go_on(again, masks[2:]), expected)


def test_runs_side_by_side_are_runs_alone(other: str) -> None:
    envs = DynPruneVectorEnv(3, "Disabled", task="Other", device="cpu")
    masks = random_masks(envs, 3)
    together = play(envs, masks, seed=5)
    alone = play(unwrapped(other), masks[:, 1], seed=6)
    for all_of_them, one in zip(together, alone, strict=True):
        assert all_of_them[-1]["val_loss"][1] == one[-1]["val_loss"]
        assert all_of_them[-1]["val_accuracy"][1] == one[-1]["val_accuracy"]


def test_outputs_that_are_no_numbers_end_a_run_as_entirely_wrong(other: str) -> None:
    env = unwrapped(other, budget=1.0)
    env.reset(seed=0)
    with torch.no_grad():
        for parameter in env.trainer.learner.models[0].parameters():
            parameter.fill_(float("nan"))
    assert env.evaluate("test") == (MAX_LOSS, 0.0)
    _, _, terminated, _, info = env.step(np.ones(env.action_space.n))
    assert terminated
    assert info["diverged"]
    assert info["val_accuracy"] == 0


def test_one_number_may_come_without_its_axis() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear(10, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)[:, 0]

    runs = []
    for model in (Flat, partial(linear, 10, 1)):
        with registered(partial(own_task, *diabetes(), model, recipe(loss="mse"))) as name:
            env = unwrapped(name)
            runs.append(play(env, random_masks(env, 3), seed=0))
            probe = env.episode(0).probe
            assert probe.losses().shape == (108,)
    assert_same(*runs)


# -- every agent --------------------------------------------------------------------------------


@every_task
@pytest.mark.parametrize("agent", dynprune_agents.names())
@pytest.mark.filterwarnings("ignore:.* spend the whole budget")
def test_every_agent_plays_it_or_refuses_in_a_sentence(agent: str, kind: str) -> None:
    with registered(TASKS[kind]) as name:
        made = dynprune_agents.make(agent)
        kwargs = {"budget": 0.6, "epochs": 6}

        def run() -> Any:
            return run_episodes(name, made, [0], env_kwargs=kwargs, device="cpu")

        if agent == "tdds" and kind == "regression":
            with pytest.raises(ValueError, match="a prediction of numbers has no probabilities"):
                run()
            return
        (result,) = run()
        assert not result.diverged
        assert result.visits > 0
        assert 0 <= result.test_accuracy <= 1
        assert np.isfinite(result.test_loss)


def test_gradient_norms_are_those_of_each_sample_alone(other: str) -> None:
    env = unwrapped(other)
    env.reset(seed=0)
    runs = env.scoring_runs(0)
    list(runs.run(0, 1))
    norms = runs.gradient_norms()
    (model,) = runs.models()
    data, objective = env.dataset.train, env.trainer.learner.objective
    for i in (0, 50):
        model.zero_grad()
        objective.losses(model(data.inputs[[i]]), data.labels[[i]]).sum().backward()
        squares = [p.grad.square().sum() for p in model.parameters()]
        assert norms[i] == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-4)


# -- losses of one's own ------------------------------------------------------------------------


def test_a_loss_of_ones_own_fills_the_column_and_trains() -> None:
    task = partial(regression, loss=OWN + "absolute")
    with registered(task) as name:
        env = unwrapped(name, observe="all", budget=1.0)
        env.reset(seed=0)
        start = env.trainer.train_loss[0]
        labels = env.dataset.train.labels.double().numpy()
        assert start == pytest.approx(np.abs(labels - labels.mean()).mean(), rel=1e-5)
        for _ in range(3):
            seen, *_ = env.step(np.ones(108))
        outputs, labels = predicted(env, "test")
        loss, accuracy = env.evaluate("test")
        assert loss == pytest.approx(np.abs(outputs - labels).mean(), rel=1e-4)
        assert accuracy == pytest.approx(max(0, r2_score(labels, outputs)), abs=1e-5)
        np.testing.assert_allclose(seen["confidence"], np.exp(-seen["loss"]), rtol=1e-5)


def test_a_loss_of_ones_own_on_classes_keeps_margin_and_accuracy() -> None:
    (x, _), _ = properties()
    y = np.arange(120) % 3

    def task(loss: str) -> Task:
        made = recipe(loss=loss)
        return own_task((x, y), (x[:30], y[:30]), partial(nn.Linear, 64, 3), made)

    found = []
    for loss in ("cross_entropy", OWN + "focal"):
        with registered(partial(task, loss)) as name:
            env = unwrapped(name, observe="all", learning_rate=1e-12)
            assert Settings(task="Other").resolved.info.num_classes == 3
            steps = play(env, [np.ones(env.action_space.n)], seed=0)
            found.append((steps[-1][0], env.evaluate("test")))
            assert set(np.unique(steps[-1][0]["label"])) == {0, 1, 2}
    (plain, scores), (own, own_scores) = found
    for column in ("confidence", "margin", "el2n", "correct"):
        np.testing.assert_allclose(own[column], plain[column], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        own["loss"], (1 - plain["confidence"]) ** 2 * plain["loss"], rtol=1e-4
    )
    assert own_scores.accuracy == scores.accuracy


def test_a_loss_of_ones_own_on_zeros_and_ones_is_of_several_labels() -> None:
    with registered(lambda: own_task(*properties(), "mlp", recipe(loss=OWN + "absolute"))) as name:
        env = unwrapped(name)
        assert env.settings.resolved.info.labels == "several labels"
        env.reset(seed=0)
        outputs, labels = predicted(env, "test")
        loss, accuracy = env.evaluate("test")
        assert loss == pytest.approx(np.abs(outputs - labels).mean(), rel=1e-4)
        assert accuracy == pytest.approx(((outputs > 0) == (labels == 1)).all(1).mean())


def test_the_module_of_a_loss_is_own_code() -> None:
    with registered(partial(regression, loss=OWN + "absolute")):
        assert "helpers.other_losses" in fingerprint(Settings(task="Other", device="cpu")).code


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("average", "gives a tensor (108,), one loss for each sample, got ()"),
        ("constant", "has a gradient to its outputs, got none"),
        ("fails", "fails: AttributeError"),
        ("below", "a mean loss is in [0, 20), that of a prediction of zeros is -1"),
    ],
)
def test_a_loss_that_is_none_is_found_at_the_first_reset(function: str, sentence: str) -> None:
    with registered(partial(regression, loss=OWN + function)) as name:
        with pytest.raises(ValueError) as caught:
            unwrapped(name).reset(seed=0)
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)
