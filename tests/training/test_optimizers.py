"""Adam, AdamW and every schedule do what their papers say, by hand; runs go on from files."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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

from dynprune_env import Recipe, Settings
from dynprune_env.benchmark.identity import fingerprint
from dynprune_env.common.randomness import Purpose, stream_seed
from dynprune_env.selection.budget import batch_sizes
from dynprune_env.tasks.models import make_model
from dynprune_env.tasks.registry import TASKS
from dynprune_env.training.learner import fresh_model
from dynprune_env.training.module_learner import ModuleLearner
from dynprune_env.training.numba_learner import NumbaLearner
from dynprune_env.training.optimizers import kept_state, load_kept_state, make_optimizer
from dynprune_env.training.stacked_learner import StackedLearner

GOOD: dict[str, Any] = {"epochs": 3, "batch_size": 16, "learning_rate": 0.1}
ADAMS = ("adam", "adamw")
FULL = np.ones(48, dtype=bool)
SCHEDULES = """
import numpy as np
def steps(progress): return np.where(progress < 0.5, 1.0, 0.1)
def spoiling(progress):
    progress[...] = 0.25
    return progress
def negative(progress): return progress - 1
def endless(progress): return progress / 0
def alone(progress): return 1.0
def words(progress): return ["a"] * len(progress)
def raises(progress): return progress.nothing
class Kind: pass
NUMBER = 3
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_schedules.py").write_text(SCHEDULES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_schedules", None)


def digits(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """The digits under another recipe."""
    task = TASKS["Digits"]
    monkeypatch.setitem(TASKS, "Digits", replace(task, recipe=replace(task.recipe, **changes)))


# -- optimisers ---------------------------------------------------------------------------------


def by_hand(optimizer: str, gradients: list[float], rate: float, decay: float) -> float:
    """A number that begins at 1 and takes these steps (Kingma & Ba 2015, Loshchilov 2019)."""
    x, first, second = 1.0, 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        if optimizer == "adamw":
            x -= rate * decay * x
        else:
            gradient += decay * x
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        x -= rate * (first / (1 - 0.9**t)) / (math.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return x


@pytest.mark.parametrize("optimizer", ADAMS)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_steps_of_adam_are_those_of_the_paper(optimizer: str, decay: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    recipe = Recipe(**GOOD, optimizer=optimizer, weight_decay=decay)
    made = make_optimizer(model, recipe)
    gradients = [0.5, -2.0, 0.1, 3.0]
    for gradient in gradients:
        model.weight.grad = torch.full((1, 1), gradient)
        made.step()
    expected = by_hand(optimizer, gradients, 0.1, decay)
    assert float(model.weight.detach()) == pytest.approx(expected, rel=1e-5)


def test_the_two_ways_of_weight_decay_differ() -> None:
    steps = [by_hand(each, [0.5, -2.0, 0.1], 0.1, 0.3) for each in ADAMS]
    assert steps[0] != pytest.approx(steps[1], rel=1e-3)


@pytest.mark.parametrize("optimizer", ADAMS)
def test_two_epochs_are_a_loop_around_torchs_own(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits(monkeypatch, optimizer=optimizer, learning_rate=0.01, weight_decay=0.1)
    env = make(budget=1.0)
    _, info = env.reset(seed=0)
    passes = watch_passes(env)
    go_on(env, random_masks(env, 2, 0.7))

    task, data = env.settings.resolved, env.dataset
    seed = stream_seed(info["run_seed"], 0, Purpose.MODEL)
    model = fresh_model(
        lambda: make_model(task.model, data.info.input_shape, data.info.num_classes), seed
    )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    reference = kind(model.parameters(), weight_decay=0.1)
    for (each,) in passes:
        batches = zip(each.order.split(batch_sizes(len(each.order), 16)), each.rates, strict=True)
        for ids, rate in batches:
            reference.param_groups[0]["lr"] = rate
            reference.zero_grad()
            logits = model(data.train.inputs[ids])
            nn.functional.cross_entropy(logits, data.train.labels[ids]).backward()
            reference.step()
    trained = env.trainer.learner.module(0)
    for one, other in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ADAMS)
def test_a_run_under_adam_goes_on_bit_for_bit_from_a_state_a_file_and_a_fork(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits(monkeypatch, optimizer=optimizer, learning_rate=0.01)
    env = make(averaging=0.9)
    masks = random_masks(env, 4, 0.4)
    expected = play(env, masks, seed=0)[3:]
    play(env, masks[:2], seed=0)
    fork, state = env.fork(), env.get_state()
    env.save(tmp_path / "run.pt")
    assert_same(go_on(env, masks[2:]), expected)
    assert_same(go_on(fork, masks[2:]), expected)
    other = make(averaging=0.9)
    other.set_state(state)
    assert_same(go_on(other, masks[2:]), expected)
    other.load(tmp_path / "run.pt")
    assert_same(go_on(other, masks[2:]), expected)


def test_a_state_holds_both_moments_and_the_steps_and_is_a_copy() -> None:
    def stepped(optimizer: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Linear(3, 2)
        model.bias.requires_grad_(False)  # no gradient ever comes
        made = make_optimizer(model, Recipe(**GOOD, optimizer=optimizer))
        model(torch.ones(4, 3)).square().sum().backward()
        made.step()
        return model, made

    for optimizer, names in (
        ("sgd", {"momentum_buffer"}),
        ("adam", {"step", "exp_avg", "exp_avg_sq"}),
        ("adamw", {"step", "exp_avg", "exp_avg_sq"}),
    ):
        model, made = stepped(optimizer)
        weight, bias = kept_state(made)
        assert set(weight) == names
        assert bias == {}
        other = make_optimizer(model, Recipe(**GOOD, optimizer=optimizer))
        load_kept_state(other, [weight, bias])
        again = kept_state(other)
        made.step()
        for name in names:
            assert torch.equal(again[0][name], weight[name])
        load_kept_state(other, [weight, bias])
        other.step()
        for name in names:  # neither is part of the other
            assert torch.equal(again[0][name], weight[name])


@pytest.mark.parametrize("optimizer", ADAMS)
def test_a_reset_forgets_the_moments(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digits(monkeypatch, optimizer=optimizer, learning_rate=0.01)
    env = make()
    masks = random_masks(env, 3)
    expected = play(env, masks, seed=1)
    assert_same(play(env, masks, seed=1), expected)


@pytest.mark.parametrize("optimizer", ADAMS)
def test_runs_side_by_side_under_adam_are_runs_alone(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits(monkeypatch, optimizer=optimizer, learning_rate=0.01)
    envs = make_vector(3)
    masks = random_masks(envs, 3, np.array([1.0, 0.6, 0.1])[:, None])
    steps = play(envs, masks, seed=7)
    assert_same(row_of(steps, 2), play(make(), masks[:, 2], seed=9))


@pytest.mark.parametrize("optimizer", ADAMS)
@pytest.mark.parametrize("own", ["plain", "convolutional"])
def test_every_kind_of_module_trains_under_adam(
    optimizer: str, own: str, pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Digits", "Pictures"):
        recipe = replace(TASKS[name].recipe, optimizer=optimizer, learning_rate=0.01)
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], recipe=recipe))
    env = make(budget=1.0, **(pictures if own == "convolutional" else {}))
    steps = play(env, [FULL] * 4, seed=0)
    assert isinstance(env.trainer.learner, ModuleLearner)
    assert steps[-1][-1]["val_loss"] < steps[0][-1]["val_loss"]


@pytest.mark.parametrize("optimizer", ADAMS)
@pytest.mark.parametrize(
    ("kind", "learner"), [("stacked", StackedLearner), ("numba", NumbaLearner)]
)
def test_learners_with_a_step_of_their_own_refuse_adam_at_construction(
    optimizer: str, kind: str, learner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make()
    env.reset(seed=0)
    data = env.trainer.dataset
    digits(monkeypatch, optimizer=optimizer)
    sentence = (
        f"learner='{kind}' trains with optimizer='sgd' and loss='cross_entropy', the recipe has "
        f"optimizer='{optimizer}' and loss='cross_entropy'"
    )
    with pytest.raises(ValueError, match=sentence):
        Settings(learner=kind)
    with pytest.raises(ValueError, match=sentence):
        recipe = TASKS["Digits"].recipe
        learner(lambda: nn.Linear(64, 10), data, recipe, 1, torch.device("cpu"))
    for kept in ("auto", "modules"):
        assert Settings(learner=kept).recipe.optimizer == optimizer


def test_the_state_of_another_optimiser_or_schedule_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = make(learner="modules")
    env.reset(seed=0)
    state = env.get_state()
    for change in ({"optimizer": "adam"}, {"schedule": "cosine"}):
        with monkeypatch.context() as patch:
            digits(patch, **change)
            other = make(learner="modules")
            other.reset(seed=0)
            with pytest.raises(ValueError, match="the state was made with the settings"):
                other.set_state(state)


# -- schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("one_cycle", [0.1 * 0.04, 0.1 * (0.04 + 0.48), 0.1, 0.1 * 0.5, 0]),
        (
            "cosine",
            [0.1, 0.1 * (0.5 + 0.5 * math.cos(0.1 * math.pi)), 0.1 * 0.9045085, 0.0345492, 0],
        ),
        ("constant", [0.1] * 5),
        ("own_schedules:steps", [0.1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_the_rates_of_every_schedule_are_as_by_hand(schedule: str, rates: list[float]) -> None:
    recipe = Recipe(**GOOD, schedule=schedule)
    progress = np.array([0, 0.1, 0.2, 0.6, 1])
    assert recipe.rate(progress) == pytest.approx(rates, abs=1e-7)
    assert recipe.rate(progress.reshape(5, 1)).shape == (5, 1)
    assert recipe.rate(progress[:0]).shape == (0,)


def test_only_one_cycle_rises() -> None:
    for schedule in ("cosine", "constant", "own_schedules:steps"):
        one, other = (Recipe(**GOOD, schedule=schedule, warmup=each) for each in (0.0, 0.9))
        progress = np.linspace(0, 1, 7)
        assert one.rate(progress).tolist() == other.rate(progress).tolist()


@pytest.mark.parametrize("schedule", ["cosine", "constant", "own_schedules:steps"])
@pytest.mark.parametrize("learner", ["numba", "stacked", "modules"])
def test_every_learner_serves_every_schedule(
    schedule: str, learner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = random_masks(make(), 4, 0.6)
    before = play(make(learner=learner), masks, seed=0)
    digits(monkeypatch, schedule=schedule)
    env = make(learner=learner)
    env.reset(seed=0)
    passes = watch_passes(env)
    go_on(env, masks)
    recipe = env.settings.recipe
    first = passes[0][0].rates
    spent = max(1 / env.trainer.budget.epochs, len(passes[0][0].order) / (0.5 * 4 * 48))
    middle = (np.arange(len(first)) + 0.5) / len(first) * spent
    np.testing.assert_allclose(first, recipe.rate(middle))
    after = play(make(learner=learner), masks, seed=0)
    assert differs(after, before)
    assert_same(after, play(make(learner="modules"), masks, seed=0), 1e-5)


def test_a_schedule_cannot_change_the_progress_that_it_is_given() -> None:
    progress = np.array([0.5, 0.75])
    assert Recipe(**GOOD, schedule="own_schedules:spoiling").rate(progress).tolist() == [0.025] * 2
    assert progress.tolist() == [0.5, 0.75]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": "rmsprop"}, "optimizer is one of ('sgd', 'adam', 'adamw'), got 'rmsprop'"),
        ({"optimizer": None}, "optimizer is a text, got None"),
        ({"schedule": 3}, "schedule is a text, got 3"),
        ({"schedule": "cosin"}, "no schedule is called 'cosin'; there are one_cycle, cosine, "),
        ({"schedule": ""}, "no schedule is called ''"),
        ({"schedule": "nowhere:f"}, "cannot load the schedule 'nowhere:f'"),
        ({"schedule": "own_schedules:gone"}, "cannot load the schedule 'own_schedules:gone'"),
        ({"schedule": "own_schedules:NUMBER"}, "is a function of progress, got 3"),
        ({"schedule": "own_schedules:Kind"}, "is a function of progress, got <class"),
        ({"schedule": "own_schedules:negative"}, "a finite number of at least 0 for each progress"),
        ({"schedule": "own_schedules:alone"}, "for each progress, (11,) in all, got array(1.)"),
        ({"schedule": "own_schedules:words"}, "gives a finite number of at least 0"),
        ({"schedule": "own_schedules:raises"}, "fails: AttributeError"),
    ],
)
def test_what_is_no_optimiser_and_no_schedule_is_refused_in_a_sentence(
    change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:
        Recipe(**GOOD, **change)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_schedule_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="gives a finite number of at least 0"):
        Recipe(**GOOD, schedule="own_schedules:endless")


def test_texts_of_numpy_become_those_of_python() -> None:
    recipe = Recipe(**GOOD, optimizer=np.str_("adam"), schedule=np.str_("cosine"))
    assert {type(recipe.optimizer), type(recipe.schedule)} == {str}


def test_the_module_of_a_schedule_is_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "own_schedules" not in fingerprint(Settings(device="cpu")).code
    digits(monkeypatch, schedule="own_schedules:steps")
    before = fingerprint(Settings(device="cpu")).code["own_schedules"]
    sys.modules.pop("own_schedules")
    (tmp_path / "own_schedules.py").write_text(SCHEDULES + "\nOTHER = 1\n")
    assert fingerprint(Settings(device="cpu")).code["own_schedules"] != before


def test_threads_count_where_modules_train_a_plain_net(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(**settings: Any) -> tuple[str, int]:
        known = fingerprint(Settings(device="cpu", threads=2, **settings)).engine["threads"]
        env = make(device="cpu", threads=2, **settings)
        env.reset(seed=0)
        return known, env.trainer.threads

    assert threads() == ("1", 1)
    assert threads(learner="modules") == ("2", 2)
    digits(monkeypatch, optimizer="adam")
    assert threads() == ("2", 2)
