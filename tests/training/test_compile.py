"""`compile=True` trains the same model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, make_vector, play, random_masks
from helpers.other_losses import multi_label, regression

from dynprune_env.tasks.registry import TASKS


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_net_trains_like_the_plain_one_and_is_compiled_once(
    pictures: dict[str, Any],
) -> None:
    plain, compiled = make(**pictures), make(**pictures, compile=True)
    masks = [np.ones(48, dtype=bool), *random_masks(plain, 3)]
    expected = play(plain, masks, seed=3)
    assert_same(play(compiled, masks, seed=3), expected, 1e-3)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert play(compiled, random_masks(plain, 4, seed=1), seed=4)[-1][2]


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_net_is_compiled_for_training_and_for_scoring_and_never_again(
    replicas: int, pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def compiler(graph: Any, inputs: list[torch.Tensor]) -> Any:
        sizes.append(max(len(each) for each in inputs if each.shape[1:] == (3, 16, 16)))
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    monkeypatch.setattr("dynprune_env.training.module_learner.SCORING_BATCH", 20)
    env = make_vector(replicas, **pictures, compile=True)
    masks = random_masks(env, 4, 0.8)
    play(env, masks, seed=3)
    assert sorted(sizes) == [16, 20]
    for seed in (4, 5):
        play(env, masks, seed=seed)
    env.reset(seed=[6] + [None] * (replicas - 1))
    assert len(sizes) == 2


@pytest.mark.parametrize("changes", [{"optimizer": "adamw"}, {"schedule": "cosine"}], ids=str)
def test_every_recipe_trains_compiled_as_it_does_plain(
    changes: dict[str, str], pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiler(graph: Any, inputs: list[torch.Tensor]) -> Any:
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    recipe = replace(TASKS["Pictures"].recipe, **changes)
    monkeypatch.setitem(TASKS, "Pictures", replace(TASKS["Pictures"], recipe=recipe))
    plain = make(**pictures)
    masks = random_masks(plain, 3)
    expected = play(plain, masks, seed=3)
    assert_same(play(make(**pictures, compile=True), masks, seed=3), expected, 1e-5)


def test_other_losses_train_compiled_as_they_do_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiler(graph: Any, inputs: list[torch.Tensor]) -> Any:
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    for made in (multi_label, regression):
        torch.compiler.reset()
        monkeypatch.setitem(TASKS, "Other", made())
        plain, compiled = (make(task="Other", compile=each) for each in (False, True))
        masks = random_masks(plain, 3)
        assert_same(play(compiled, masks, seed=3), play(plain, masks, seed=3), 1e-5)
