"""A model of a user's own is tried on two samples, before a run begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dynprune_env.common.draws import drawing
from dynprune_env.tasks.datasets import DatasetInfo
from dynprune_env.tasks.losses import CLASSES, NUMBERS, SEVERAL
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset
from dynprune_env.training.learner import fresh_model
from dynprune_env.training.loading import input_table
from dynprune_env.training.objective import objective_of


def check_outputs(
    task: str,
    make_model: Callable[[], nn.Module],
    dataset: Dataset,
    recipe: Recipe,
    device: torch.device,
) -> None:
    """Runs a fresh model on two train samples, as in training and as in evaluation.

    Logits that are not finite are legal: such a run diverges.

    Raises:
        ValueError: it fails, is not made afresh, does not give a logit for each class (an output
            for each label or number), or none of its parameters gets a gradient; or the loss is no
            loss of a sample, or too large from the start.
    """
    ids = torch.tensor([0, min(1, len(dataset.train) - 1)], device=device)
    inputs = input_table(dataset.train.inputs, dataset.info).batch(ids)
    given = f"inputs {tuple(inputs.shape)} {inputs.dtype}"
    try:
        model, other = fresh_model(make_model, 0), fresh_model(make_model, 0)
        wrong = _not_fresh(model, other) or _not_trainable(model.to(device), inputs, dataset.info)
    except Exception as error:  # whatever a user's own model raises
        raise ValueError(f"the model of {task} fails on {given}: {error}") from error
    if wrong:
        raise ValueError(f"the model of {task} {wrong}".replace("INPUTS", given))
    if ":" in recipe.loss:
        _check_loss(recipe, dataset, ids)


def _check_loss(recipe: Recipe, dataset: Dataset, ids: Tensor) -> None:
    """Tries a loss of one's own on two samples."""
    labels = dataset.train.labels[ids]
    outputs = torch.zeros(len(ids), dataset.info.outputs, dtype=torch.float32, device=ids.device)
    try:
        losses = objective_of(recipe, dataset).losses(outputs.requires_grad_(), labels)
    except ValueError:
        raise
    except Exception as error:  # whatever a user's own function raises
        raise ValueError(f"the loss {recipe.loss!r} fails: {error!r}") from error
    if not losses.requires_grad:
        raise ValueError(f"the loss {recipe.loss!r} has a gradient to its outputs, got none")


def _not_fresh(model: Any, other: Any) -> str:
    """What is wrong with two models made one after the other, or ""."""
    if not isinstance(model, nn.Module):
        return f"is of type {type(model).__name__}, expected a torch module"
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    if model is other or trained & {id(p) for p in other.parameters()}:
        return "shares its parameters with the one made before, expected a fresh one each time"
    return ""


def _not_trainable(model: nn.Module, inputs: Tensor, info: DatasetInfo) -> str:
    """What is wrong with a model's logits or their gradient, or ""."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    with drawing(0, inputs.device):  # a model may draw, as dropout does
        trained = model.train()(inputs.clone())  # it may work in place
        with torch.no_grad():
            scored = model.eval()(inputs.clone())
    for output in (scored, trained):
        expected = (len(inputs), info.outputs)
        flat = info.labels == NUMBERS and info.outputs == 1
        fits = isinstance(output, Tensor) and (
            output.shape == expected or (flat and output.shape == expected[:1])
        )
        if not fits:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            what = {CLASSES: "class", SEVERAL: "label", NUMBERS: "number"}[info.labels]
            kind = "outputs" if info.labels == NUMBERS else "logits"
            return f"gives {found} for INPUTS, expected {kind} {expected}: one for each {what}"
        if not output.is_floating_point():
            return f"gives {output.dtype} for INPUTS, expected floating-point logits"
    if parameters and trained.requires_grad:
        gradients = torch.autograd.grad(trained.sum(), parameters, allow_unused=True)
        if any(gradient is not None for gradient in gradients):
            return ""
    return "gives logits without a gradient, expected a parameter to train that reaches them"
