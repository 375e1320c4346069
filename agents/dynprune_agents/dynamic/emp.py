"""EMP: hard samples, and those that the model is unsure of.

Xiao et al. (2024), "EMP: Enhance Memory in Data Pruning", arXiv:2408.16031; second-hand, since the
authors' repository is empty: score = loss + beta H, where the entropy H of the predicted
probabilities stands for what the model memorises of the sample. Here only the label's probability p
is known, so H is that of (p, 1 - p), which the true entropy is never below. beta and the selection
(the top scores, anew in every epoch, after a full one) are ours.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_agents._blocks import blocks
from dynprune_env.selection.ranking import keep_top


@dataclass
class EMP(PeriodicAgent):
    """The highest loss plus beta times the entropy of (p, 1 - p) (after Xiao et al. 2024).

    Attributes:
        period: epochs between selections.
        warmup: full epochs before the first selection.
        beta: weight of the entropy, at least 0.
    """

    source: ClassVar[str] = "second-hand: Xiao et al. 2024, arXiv:2408.16031"
    columns = ("loss", "confidence")

    period: int | None = 1
    beta: float = 0.5

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if self.beta < 0:
            raise ValueError(f"beta is at least 0, got {self.beta}")

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The top scores."""
        loss, confidence = observation["loss"], observation["confidence"]
        scores = np.empty(loss.shape)
        for part in blocks(loss.shape[-1]):
            p = np.clip(confidence[..., part], 1e-12, 1 - 1e-12, dtype=np.float64)
            entropy, other = -p * np.log(p), 1 - p
            entropy -= other * np.log(other, out=p)  # exact enough: confidences are float32
            entropy *= self.beta
            np.add(entropy, loss[..., part], out=scores[..., part])
        return keep_top(scores, count, self.rng)
