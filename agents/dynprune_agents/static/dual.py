"""DUAL: uncertain and hard samples, found early.

Cho, Shin et al. (ICML 2025), "Lightweight Dataset Pruning without Full Training via Example
Difficulty and Prediction Uncertainty", arXiv:2502.06905; read in the authors' code
(behaapyy/dual-pruning). In the first epochs of one run, windows of ten epochs of the label's
probability p: deviation times (1 - mean), averaged over the windows. With Beta sampling, samples
are drawn with probability proportional to the score times a Beta density of their mean p, which
moves to easy samples as less is kept.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import check_shares
from dynprune_agents._blocks import blocks
from dynprune_agents._draws import gumbel
from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns

TOP = 10
"""Samples of highest score whose mean p anchors the Beta density."""


@dataclass
class Dual(StaticAgent):
    """Windowed deviation times (1 - mean) of p, early in a run; Beta sampling (Cho et al. 2025).

    Attributes:
        early: share of a full run that is watched, in (0, 1] (30 of 200 epochs).
        window: epochs in a window, at least 2; None means a third of the watched ones.
        beta: whether samples are drawn by the Beta density; else the top scores are kept.
        c: how fast the density moves to easy samples as less is kept (4 on CIFAR, 11 on ImageNet).
    """

    source: ClassVar[str] = "Cho, Shin et al., ICML 2025, arXiv:2502.06905"
    columns = ("confidence",)

    early: float = 0.15
    window: int | None = None
    beta: bool = True
    c: float = 4.0

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("(0, 1]", early=self.early)
        if (self.window is not None and self.window < 2) or not self.c > 0:
            raise ValueError(
                f"window is at least 2 epochs, c positive, got {self.window} and {self.c}"
            )

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The mean over the windows."""
        epochs = min(runs.epochs, max(2, round(self.early * runs.epochs)))
        p = np.array([seen["confidence"] for seen in runs.run(0, epochs)], dtype=np.float64)
        size = min(len(p), self.window or max(2, round(len(p) / 3)))
        windows = [p[i : i + size] for i in range(len(p) - size + 1)]
        self._mean_p = p.mean(0)
        free = min(1, size - 1)  # of a single epoch there is no deviation
        return np.mean([w.std(0, ddof=free) * (1 - w.mean(0)) for w in windows], axis=0)

    def choose(self, scores: np.ndarray, count: np.ndarray) -> np.ndarray:
        """The top scores, or a draw without replacement."""
        if not self.beta:
            return super().choose(scores, count)
        n = scores.shape[-1]
        top = np.argpartition(scores, -min(TOP, n), axis=-1)[..., -TOP:]
        anchor = np.take_along_axis(self._mean_p, top, axis=-1).mean(-1, keepdims=True)
        pruned = 1 - np.asarray(count)[..., None] / n
        b = 15 * (1 - anchor) * (1 - pruned**self.c)
        logits = gumbel(n, self.rng)
        with np.errstate(divide="ignore"):
            for part in blocks(n):
                p = np.clip(self._mean_p[..., part], 1e-6, 1 - 1e-6)  # may be infinite at the ends
                # The density but for its factor, which is the same for all.
                logits[..., part] += (15 - b) * np.log(p) + (np.maximum(b, 1e-6) - 1) * np.log1p(-p)
                logits[..., part] += np.log(scores[..., part])
        return super().choose(logits, count)
