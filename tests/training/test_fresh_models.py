"""Fresh models, and what may be had without building them or loading half of torch."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from helpers.episodes import make_vector, run_script
from torch import nn

from dynprune_env.tasks.models import linear_parameters, make_model
from dynprune_env.training.learner import fresh_model


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
@pytest.mark.parametrize("spec", ["mlp", "mlp(width=5, depth=3)", "mlp(depth=0)"])
def test_layers_that_are_not_built_have_the_same_parameters(spec: str, seed: int) -> None:
    model = fresh_model(partial(make_model, spec, (1, 4, 4), 3), seed)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    drawn = linear_parameters([(each.in_features, each.out_features) for each in layers], seed)
    for layer, (weight, bias) in zip(layers, drawn, strict=True):
        assert torch.equal(layer.weight, weight)
        assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize("learner", ["stacked", "numba"])
def test_copies_of_models_share_nothing(learner: str) -> None:
    env = make_vector(2, learner=learner)
    env.reset(seed=0)
    copies = [env.trainer.learner.module(row) for row in (0, 1, 0)]
    for own in copies[0].parameters():
        own.data.zero_()
    copies[0].register_forward_hook(lambda *_: None)
    assert not copies[2]._forward_hooks
    first, other, again = ([p.clone() for p in each.parameters()] for each in copies)
    assert all(not value.any() for value in first)
    assert all(value.any() for value in again)
    assert not torch.equal(other[0], again[0])


def test_small_runs_load_no_compiler_of_torch() -> None:
    """It takes seconds."""
    script = """
import sys, dynprune_agents
from dynprune_env import run_episodes
for agent in ("grand", "rho_loss", "learned"):
    run_episodes("DynPrune-Digits-v0", dynprune_agents.make(agent), [0], env_kwargs={"epochs": 3})
print("torch" in sys.modules, "torch._dynamo" in sys.modules)
"""
    assert run_script(script) == "True False"
