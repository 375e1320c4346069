"""Where a run's val accuracy was best, and the test accuracy there: what early stopping gives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.common.restorable import restorable

if TYPE_CHECKING:
    from dynprune_env.envs.vector_env import DynPruneVectorEnv


@restorable
@dataclass(frozen=True)
class BestEpoch:
    """The epoch of a run whose val accuracy was best, the first of equals.

    Attributes:
        epoch: how many epochs were over then, from 1; 0 for a run without one.
        val_accuracy: there, in [0, 1].
        test_accuracy: there, in [0, 1].
    """

    epoch: int
    val_accuracy: float
    test_accuracy: float

    def check(self, epochs: int) -> None:
        """Checks it against the number of epochs played.

        Raises:
            ValueError: it does not fit.
        """
        shares = (self.val_accuracy, self.test_accuracy)
        if not 0 <= self.epoch <= epochs or not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"its best epoch is {self}, of {epochs}")


class BestEpochs:
    """The best epochs so far of the rows of a vector environment.

    Its evaluations of the test split reach no reward, observation or info, and the seconds that
    they take are not the runs': `seconds` of them are to be left out.
    """

    def __init__(self, env: DynPruneVectorEnv):
        rows = env.num_envs
        self._trainer = env.trainer
        self._epoch = np.zeros(rows, dtype=np.int64)
        self._val, self._test = np.zeros(rows), np.zeros(rows)
        self.seconds = 0.0

    def add(self, info: dict[str, np.ndarray]) -> None:
        """Takes in one step by its infos; evaluates the rows that have become better."""
        lived = info["_epoch"] & (info["epoch"] > 0)
        better = lived & ((info["val_accuracy"] > self._val) | (self._epoch == 0))
        if not better.any():
            return
        start, counted = time.perf_counter(), self._trainer.seconds["evaluate"]
        rows = np.flatnonzero(better)
        self._epoch[rows], self._val[rows] = info["epoch"][rows], info["val_accuracy"][rows]
        self._test[rows] = self._trainer.evaluate("test", rows).accuracy
        self._trainer.seconds["evaluate"] = counted
        self.seconds += time.perf_counter() - start

    def row(self, row: int) -> BestEpoch:
        """That of one run."""
        return BestEpoch(int(self._epoch[row]), float(self._val[row]), float(self._test[row]))

    def state(self) -> dict[str, Any]:
        """What was found so far."""
        return {"epoch": self._epoch, "val": self._val, "test": self._test}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._epoch, self._val, self._test = state["epoch"], state["val"], state["test"]
