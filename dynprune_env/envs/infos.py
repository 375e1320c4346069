"""What infos say of R runs, in the form of Gymnasium's vector environments."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

from dynprune_env.selection.observations import row_of
from dynprune_env.selection.rewards import Metrics
from dynprune_env.training.trainer import Trainer


def told_of_runs(
    trainer: Trainer, metrics: Metrics, kept: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """One (R,) array per key, copies; no key is one of observations.

    Args:
        trainer: of the runs.
        metrics: how well they do.
        kept: (R,) int64, the samples trained in this step; None for none.
    """
    budget = trainer.budget
    standing = budget.standing()
    return {
        "epoch": budget.epoch.copy(),
        "kept": np.zeros_like(budget.epoch) if kept is None else kept.copy(),
        "run_visits": budget.visits.copy(),
        "scored": budget.scored.copy(),
        "spent": standing.spent,
        "saved": standing.saved,
        "run_progress": standing.progress,
        "val_loss": metrics.val_loss.copy(),
        "val_accuracy": metrics.val_accuracy.copy(),
        "train_loss": metrics.train_loss.copy(),
        "diverged": trainer.diverged.copy(),
        "run_seed": trainer.seeds.copy(),
    }


def run_infos(told: dict[str, np.ndarray], mask: np.ndarray | None) -> dict[str, Any]:
    """What is told, and under _key which rows have it, (R,) bool.

    Args:
        told: see `told_of_runs`.
        mask: (R,) bool, of which rows something is told; None for all.
    """
    present = np.ones(len(told["epoch"]), dtype=bool) if mask is None else mask
    return told | {f"_{name}": present.copy() for name in told}


def info_of_one(told: dict[str, np.ndarray]) -> dict[str, Any]:
    """What is told of a single run, as Python's numbers and bools."""
    return {name: value.item() for name, value in told.items()}


def final_infos(observations: Any, infos: dict[str, Any], ended: np.ndarray) -> dict[str, Any]:
    """What was observed and told last of rows that begin anew in the same step.

    Args:
        observations: (R, ...), of the step that ended them.
        infos: of that step.
        ended: (R,) bool, which they are.
    """
    final = np.full(len(ended), None, dtype=object)
    for row in np.flatnonzero(ended):
        final[row] = deepcopy(row_of(observations, int(row)))
    told = {name: ended if name.startswith("_") else value for name, value in infos.items()}
    return {
        "final_obs": final,
        "_final_obs": ended.copy(),
        "final_info": {name: value.copy() for name, value in told.items()},
        "_final_info": ended.copy(),
    }
