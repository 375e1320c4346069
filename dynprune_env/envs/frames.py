"""What each epoch of each row looked like: the memory of the panel that `render` draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dynprune_env.envs.rendering import EpochFrame, draw_panel
from dynprune_env.envs.settings import Settings
from dynprune_env.selection.rewards import Metrics
from dynprune_env.tasks.models import model_name
from dynprune_env.training.trainer import Trainer


class Frames:
    """The epochs so far of R rows.

    Args:
        num_rows: R.
        settings: of the environment; they make the title.
        wanted: whether anybody will look; if not, nothing is kept.

    Attributes:
        rows: the epochs of each row, the reset state first.
    """

    READS = ("loss",)
    """The columns that are looked at, where they are wanted."""

    def __init__(self, num_rows: int, settings: Settings, wanted: bool):
        self.settings = settings
        self.wanted = wanted
        self.rows: list[list[EpochFrame]] = [[] for _ in range(num_rows)]
        self._loss: np.ndarray | None = None

    def start(self, rows: Iterable[int], trainer: Trainer, metrics: Metrics) -> None:
        """New runs began in these rows."""
        if self.wanted:
            none = np.zeros(trainer.num_samples, dtype=bool)
            for row in rows:
                loss = trainer.statistics.loss[row].copy()
                self.rows[row] = [_frame(row, none, loss, trainer, metrics)]

    def decide(self, trainer: Trainer) -> None:
        """An epoch is about to begin: its decision is made on the losses as they are."""
        if self.wanted:
            self._loss = trainer.statistics.loss.copy()

    def add(
        self, rows: Iterable[int], trained: Sequence[np.ndarray], trainer: Trainer, metrics: Metrics
    ) -> None:
        """An epoch has ended in these rows; `trained` holds each row's samples, (k,) int64."""
        if self._loss is not None:
            ids = np.arange(trainer.num_samples)
            for row in rows:
                kept = np.isin(ids, trained[row])
                self.rows[row].append(_frame(row, kept, self._loss[row], trainer, metrics))

    def panel(self, row: int) -> np.ndarray:
        """The picture of one row, (H, W, 3) uint8."""
        settings = self.settings
        model = model_name(settings.resolved.model)
        return draw_panel(
            self.rows[row],
            title=f"{settings.task}, {model}, {settings.num_samples:,} samples",
            epochs=settings.recipe.epochs,
            budget=settings.budget,
        )


def _frame(
    row: int, kept: np.ndarray, loss: np.ndarray, trainer: Trainer, metrics: Metrics
) -> EpochFrame:
    return EpochFrame(
        epoch=int(trainer.budget.epoch[row]),
        spent=float(trainer.budget.spent[row]),
        val_loss=float(metrics.val_loss[row]),
        val_accuracy=float(metrics.val_accuracy[row]),
        kept=kept,
        loss=loss,
    )
