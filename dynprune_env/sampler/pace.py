"""How many batches a run will still take, for schedules that want to know it beforehand."""

from __future__ import annotations

import copy
from typing import NamedTuple

from dynprune_env.sampler.processes import Ranks
from dynprune_env.selection.budget import VisitBudget, batch_sizes


class EpochCounts(NamedTuple):
    """Samples of the epoch under way.

    Attributes:
        kept: over all processes.
        left: of this process's share, what was not recorded before a resume.
        done: what was.
    """

    kept: int
    left: int
    done: int


def batches_left(
    budget: VisitBudget,
    ranks: Ranks,
    now: EpochCounts,
    batch_size: int,
    drop_last: bool,
    whole_batches: bool,
) -> int:
    """See `PruningSampler.steps_remaining`."""
    total, budget = 0, copy.deepcopy(budget)
    kept, left, done = now
    while budget.progress[0] < 1:
        batches = left // batch_size if drop_last else -(-left // batch_size)
        if whole_batches:
            batches = len(batch_sizes(left, batch_size))
        trained = done + min(left, batches * batch_size if drop_last else left)
        total += batches
        budget.epoch += 1
        budget.visits += min(kept, trained * ranks.number)
        kept, done = min(budget.num_samples, round(float(budget.visits_per_epoch[0]))), 0
        left = ranks.fair_share(kept)
    return total
