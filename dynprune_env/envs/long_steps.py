"""Says before a run begins that its steps will take long on this processor."""

from __future__ import annotations

import time
import warnings

import torch
from torch.nn.parameter import is_lazy

from dynprune_env.envs.settings import Settings
from dynprune_env.tasks.models import model_name
from dynprune_env.tasks.registry import task_names
from dynprune_env.training.module_learner import ModuleLearner
from dynprune_env.training.trainer import Trainer

LONG = 120.0
"""Seconds of a step that keeps everything, from which on it is worth a warning."""
WORTH_TIMING = 1e8
"""Parameters times samples; with less no step is long."""
TIMED = 16
"""Samples of the batch that is timed, after one that warms up."""
BACKWARD = 3
"""How many times as long as a forward pass a visit takes in training."""


class LongSteps(UserWarning):
    """A step of an environment takes minutes on this processor."""


def warn_of_long_steps(trainer: Trainer, settings: Settings) -> None:
    """Warns with the time of a step and of a run, and the name of the small task if there is one.

    Args:
        trainer: that was just made; its first model is timed on a few val samples.
        settings: of the environment.
    """
    if trainer.device.type != "cpu" or not isinstance(trainer.learner, ModuleLearner):
        return
    model = trainer.learner.models[0]  # no copy: not every model can be copied
    parameters = sum(p.numel() for p in model.parameters() if not is_lazy(p))
    if parameters * trainer.num_samples < WORTH_TIMING:
        return
    step = seconds_of_step(trainer)
    if step < LONG:
        return
    epochs = settings.recipe.epochs
    small = f"{settings.task}Small"
    hint = f"DynPrune-{small}-v0 is its small task" if small in task_names() else ""
    hint = hint or "train_size, epochs and threads make it shorter"
    warnings.warn(
        f"{settings.task} on a CPU ({model_name(settings.resolved.model)}, "
        f"{trainer.num_samples:,} samples): a step that keeps everything takes about "
        f"{in_words(step)}, {epochs} of them {in_words(epochs * step)}; {hint}",
        LongSteps,
        stacklevel=2,
    )


def seconds_of_step(trainer: Trainer) -> float:
    """How long a step that keeps everything will take, from a timed batch."""
    held_out = len(trainer.dataset.val)
    ids = torch.arange(min(TIMED, held_out), device=trainer.device)
    with trainer.computing():
        trainer.learner.score("val", ids[:4], [0])
        start = time.perf_counter()
        trainer.learner.score("val", ids, [0])
    each = (time.perf_counter() - start) / len(ids)
    return len(trainer.seeds) * (BACKWARD * trainer.num_samples + held_out) * each


def in_words(seconds: float) -> str:
    """A time to one digit: "3 minutes", "9 days"."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{float(f'{seconds / length:.1g}'):g} {unit}"
    return f"{float(f'{seconds:.1g}'):g} seconds"
