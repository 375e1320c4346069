"""What a model keeps outside its state_dict: fresh at a reset, saved and forked, or refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, differs, go_on, play, random_masks
from helpers.hidden_state import (
    REFUSED,
    SAVED,
    SCALE,
    Buffer,
    Counter,
    Drawing,
    EvaluationCounter,
    Hooked,
    Nested,
    PlainTensor,
    SharedTensor,
    Unchanged,
    X,
    envs_of,
)
from torch import nn


@pytest.fixture(autouse=True)
def _as_at_first() -> Iterator[None]:
    yield
    SCALE.fill_(1.0)
    Nested.__init__.__defaults__[0].clear()


@pytest.mark.parametrize("model", [*SAVED, *REFUSED, Hooked])
def test_a_reset_leaves_nothing_of_the_model_before(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = envs_of(model, monkeypatch)
    masks = random_masks(env, 3)
    expected = play(env, masks, seed=1)
    assert_same(play(env, masks, seed=1), expected)
    assert differs(play(env, masks, seed=7), expected)
    assert_same(play(envs_of(model, monkeypatch), masks, seed=1), expected)


@pytest.mark.parametrize("model", [*SAVED, *REFUSED, Hooked])
def test_a_model_is_the_same_alone_and_in_company(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    company, alone = envs_of(model, monkeypatch, 3), envs_of(model, monkeypatch, 1)
    masks = random_masks(company, 3)
    together, single = play(company, masks, seed=1), play(alone, masks[:, 2:], seed=3)
    for (*_, infos), (*_, its_infos) in zip(together, single, strict=True):
        assert infos["val_loss"][2] == its_infos["val_loss"][0]


def test_the_factory_keeps_what_it_lends(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (SharedTensor, Nested):
        env = envs_of(model, monkeypatch)
        play(env, random_masks(env, 2), seed=1)
    assert SCALE == 1
    assert Nested.__init__.__defaults__ == ([],)


@pytest.mark.parametrize("used", [False, True], ids=["into a new one", "over another run"])
@pytest.mark.parametrize("model", SAVED)
def test_a_saved_run_goes_on_with_all_that_its_model_held(
    model: type[nn.Module], used: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env, other = (envs_of(model, monkeypatch, averaging=0.9) for _ in range(2))
    masks = random_masks(env, 7)
    play(env, masks[:2], seed=1)
    if used:
        play(other, masks[4:], seed=5)
    env.save(tmp_path / "run.pt")
    other.load(tmp_path / "run.pt")
    torch.load(tmp_path / "run.pt", weights_only=True)
    fork = env.fork()
    expected = go_on(env, masks[2:4])
    for copy in (other, fork):
        assert_same(go_on(copy, masks[2:4]), expected)
        assert copy.evaluate("test").loss.tolist() == env.evaluate("test").loss.tolist()
        assert_same(copy.get_state(), env.get_state())


@pytest.mark.parametrize("model", [Counter, Nested, Buffer, PlainTensor])
def test_what_models_hold_is_not_shared_by_state_and_copies(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = envs_of(model, monkeypatch)
    masks = random_masks(env, 4)
    play(env, masks[:2], seed=1)
    state, one = env.get_state(), env.fork()
    go_on(one, masks[2:])
    for row in range(2):
        env.trainer.learner.module(row).train()(torch.from_numpy(X))
    expected = go_on(env, masks[2:])
    env.set_state(state)
    assert_same(go_on(env, masks[2:]), expected)


@pytest.mark.parametrize("model", REFUSED)
def test_what_cannot_be_saved_is_refused_by_name(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env = envs_of(model, monkeypatch)
    play(env, random_masks(env, 2), seed=1)
    for way in (env.get_state, env.fork, lambda: env.save(tmp_path / "run.pt")):
        with pytest.raises(ValueError) as refused:
            way()
        assert f"the state of {model.__name__} cannot be saved" in str(refused.value)
        assert REFUSED[model] in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_never_changed_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs_of(Unchanged, monkeypatch)
    masks = random_masks(env, 4)
    play(env, masks[:2], seed=1)
    fork = env.fork()
    assert_same(go_on(fork, masks[2:]), go_on(env, masks[2:]))


@pytest.mark.parametrize("model", [Counter, EvaluationCounter, Buffer, Nested, Drawing])
def test_a_run_does_not_depend_on_who_looks_at_it(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, watched = envs_of(model, monkeypatch), envs_of(model, monkeypatch)
    masks = random_masks(calm, 4)
    expected = play(calm, masks, seed=1)
    found = [watched.reset(seed=1)]
    for mask in masks:
        torch.rand(3)  # somebody else draws
        watched.evaluate("test")
        for row in range(2):
            watched.trainer.learner.module(row).train()(torch.ones(2, 6))
        state = torch.get_rng_state()
        watched.evaluate("train")
        assert_same(torch.get_rng_state(), state)
        found.append(watched.step(mask))
    assert_same(found, expected)


def test_optimizers_and_averages_belong_to_the_new_model(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs_of(Counter, monkeypatch, averaging=0.5)
    play(env, random_masks(env, 2), seed=1)
    env.reset(seed=2)
    learner = env.trainer.learner
    for row, (model, optimizer) in enumerate(zip(learner.models, learner.optimizers, strict=True)):
        (group,) = optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
        assert not optimizer.state
        for fresh, average in zip(
            learner.module(row).parameters(), learner.module(row, True).parameters(), strict=True
        ):
            torch.testing.assert_close(average, fresh, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_starts_afresh_too(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs_of(Buffer, monkeypatch, 1, compile=True)
    masks = np.ones((2, 1, env.settings.num_samples), dtype=bool)
    expected = play(env, masks, seed=1)
    addresses = [tensor.data_ptr() for tensor in env.trainer.learner.models[0].parameters()]
    with torch.compiler.set_stance("fail_on_recompile"):
        assert differs(play(env, masks, seed=2), expected)
        assert_same(play(env, masks, seed=1), expected)
        fork = env.fork()
        assert_same(play(fork, masks, seed=1), expected)
    (model,) = env.trainer.learner.models
    assert [tensor.data_ptr() for tensor in model.parameters()] == addresses
    assert model.scale == pytest.approx(1.1 ** (2 * 8))
