"""A task from one's own data and model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dynprune_env.passes import fresh_model, image_table
from dynprune_env.tasks.variants import Dataset


@torch.no_grad()
def check_outputs(
    task: str, make_model: Callable[[], nn.Module], dataset: Dataset, device: torch.device
) -> None:
    """Runs a fresh model on two train samples.

    Raises:
        ValueError: it fails, or does not give a logit for each class.
    """
    inputs = image_table(dataset.train.images, dataset.source).batch(
        torch.arange(min(2, len(dataset.train)), device=device)
    )
    expected = (len(inputs), dataset.source.num_classes)
    given = f"inputs {tuple(inputs.shape)} {inputs.dtype}"
    try:
        output = fresh_model(make_model, 0).to(device).eval()(inputs)
    except Exception as error:  # whatever a user's own model raises
        raise ValueError(f"the model of {task} fails on {given}: {error}") from error
    if not isinstance(output, Tensor) or output.shape != expected:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the model of {task} gives {found} for {given}, expected logits {expected}: "
            "one for each class"
        )
