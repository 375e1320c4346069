"""Early stopping: all data until val loss has not fallen for a while, then nothing.

The honest baseline where labels are wrong: what a model memorises late, it never sees. Prechelt
(1998), "Early Stopping - But When?", in Neural Networks: Tricks of the Trade.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import progress_entries


@dataclass
class EarlyStopping(Agent):
    """All data until val loss has not fallen for `patience` epochs, then none (Prechelt 1998).

    The model stays as it was when it stopped, `patience` epochs behind its best. The learning rate
    falls with the progress of the run, as ever: stopped early, it has not fallen all the way.

    Attributes:
        patience: epochs without a new lowest val loss; None means 10 % of the run, at least 2.
    """

    source: ClassVar[str] = "the usual baseline; Prechelt 1998, Early Stopping - But When?"
    columns = ()
    paced: ClassVar[bool] = False

    patience: int | None = None

    def __post_init__(self) -> None:
        """Checks the parameter."""
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is a number of epochs, at least 1, got {self.patience}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._lowest: np.ndarray | float = np.inf
        self._since: np.ndarray | int = 0
        self.warn_of_full_epochs(self._patience(), "lower patience, or raise the budget")

    def select(self, observation: Observation) -> np.ndarray:
        """Everything, or nothing."""
        val_loss = progress_entries(observation["progress"])["val_loss"]
        better = val_loss < self._lowest
        self._lowest = np.minimum(self._lowest, val_loss)
        self._since = np.where(better, 0, self._since + 1)
        going = np.asarray(self._since < self._patience())[..., None]
        return self.everything(observation) & going

    def _patience(self) -> int:
        """Epochs that it waits at least, from the first one on."""
        return self.patience or max(2, round(0.1 * self.episode.epochs))
