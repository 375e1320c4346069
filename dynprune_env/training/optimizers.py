"""Optimisers of a recipe, and what they keep of each parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dynprune_env.tasks.recipes import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of all parameters of a model, at the rate of the recipe's peak."""
    shared: Any = {
        "lr": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "fused": True,
    }
    if recipe.optimizer == "sgd":
        momentum = recipe.momentum
        return torch.optim.SGD(
            model.parameters(), momentum=momentum, nesterov=momentum > 0, **shared
        )
    recorded = any(p.device.type == "cuda" for p in model.parameters())  # see `StepGraph`
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(model.parameters(), betas=(0.9, 0.999), eps=1e-8, capturable=recorded, **shared)


def kept_state(optimizer: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    """What an optimiser keeps of each parameter, by name: copies on the host.

    That is a momentum, or two moments and a count of steps; nothing where no gradient ever came.
    """
    return [
        {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in optimizer.state.get(parameter, {}).items()
            if tensor is not None  # the momentum of plain descent
        }
        for parameter in optimizer.param_groups[0]["params"]
    ]


def start_in_place(optimizer: torch.optim.Optimizer, old: torch.optim.Optimizer) -> None:
    """Gives a new optimiser what the one that it replaces kept, set to zero, in the same memory.

    From zeros, the next step is a first step: a momentum of 0 g + g, moments after no steps.
    """
    pairs = zip(optimizer.param_groups[0]["params"], old.param_groups[0]["params"], strict=True)
    for new, before in pairs:
        for name, tensor in old.state.get(before, {}).items():
            optimizer.state[new][name] = None if tensor is None else tensor.zero_()


def load_kept_state(optimizer: torch.optim.Optimizer, state: list[dict[str, Tensor]]) -> None:
    """Gives an optimiser what `kept_state` gave; its parameters stay as they are."""
    optimizer.state.clear()
    for parameter, kept in zip(optimizer.param_groups[0]["params"], state, strict=True):
        for name, tensor in kept.items():
            like = torch.empty_like(parameter if tensor.shape == parameter.shape else tensor)
            own = like.to(parameter.device, tensor.dtype)  # in the layout of the parameter
            optimizer.state[parameter][name] = own.copy_(tensor)
