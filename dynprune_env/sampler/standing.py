"""How far a run of a sampler is, read from what it spent and recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynprune_env.sampler.checks import whole
from dynprune_env.sampler.pace import EpochCounts, batches_left
from dynprune_env.sampler.records import Records
from dynprune_env.sampler.shares import SharedSampler
from dynprune_env.selection.actions import WEIGHING
from dynprune_env.selection.budget import VisitBudget


class Standing(SharedSampler):
    """The counters of a `PruningSampler`, which sets what they are read from."""

    _settings: dict[str, Any]
    _action_kind: str
    _base: np.ndarray | None
    _order: np.ndarray
    _records: Records
    _budget: VisitBudget
    _after: VisitBudget

    @property
    def kept(self) -> np.ndarray:
        """The samples of this epoch over all processes, (k,) int64, in the order of training."""
        return self._order.copy()

    @property
    def seed(self) -> int:  # type: ignore[override]
        """The seed of the run: the one that was given, else the one that was drawn."""
        return int(self._settings["seed"])

    @property
    def count(self) -> int:
        """n, the number of samples that the agent chooses from."""
        return self._budget.num_samples

    @property
    def epochs(self) -> int:
        """T, the most epochs."""
        return self._budget.epochs

    @property
    def epoch(self) -> int:  # type: ignore[override]
        """Epochs done."""
        return int(self._budget.epoch[0])

    @property
    def recorded(self) -> int:
        """Samples recorded in the epoch under way, by this process."""
        return len(self._records)

    @property
    def num_classes(self) -> int | None:
        """C; None where the sampler has no labels, and losses are recorded."""
        return int(self._settings["num_classes"]) if self._records.has_labels else None

    @property
    def weighs(self) -> bool:
        """Whether gradient weights may differ from one: the agent gives some, or base weights."""
        return self._base is not None or self._action_kind in WEIGHING

    @property
    def visits(self) -> int:
        """Samples trained in the epochs done, over all processes."""
        return int(self._budget.visits[0])

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or the budget is spent."""
        return bool(self._budget.progress[0] >= 1)

    @property
    def progress(self) -> float:
        """max(epoch / T, share of the budget spent) in [0, 1]; it moves with every record.

        A schedule that runs on it is complete however fast the agent spends.
        """
        mine = self._ranks.fair_share(len(self._order))
        share = min(1.0, len(self._records) / max(1, mine))
        before, after = float(self._budget.progress[0]), float(self._after.progress[0])
        return before + share * (after - before)

    def steps_remaining(
        self, batch_size: int, drop_last: bool = False, whole_batches: bool = False
    ) -> int:
        """How many batches this process's loader will still give, from the start of this epoch.

        Exact for agents that spend the budget evenly; for those of a pace of their own an
        estimate, which takes the rest of the budget as evenly spent.

        Args:
            batch_size: samples per batch; with gradients accumulated over k batches, k times that.
            drop_last: of the loader.
            whole_batches: whether `WholeBatches` makes the loader's batches.
        """
        size = whole("batch_size", batch_size, 1)
        left = self._ranks.fair_share(len(self)) if self._ranks.dealt_elsewhere else len(self)
        now = EpochCounts(len(self._order), left, len(self._done))
        return batches_left(self._budget, self._ranks, now, size, drop_last, whole_batches)

    @property
    def dealt_by(self) -> str:
        """Who deals the shares out, "sampler" or "framework"."""
        return self._ranks.dealt_by
