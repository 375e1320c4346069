"""Tilts: a short action that leans dynamic random towards some samples."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from dynprune_env.selection.context import ActionContext, check_symmetric
from dynprune_env.selection.features import class_means
from dynprune_env.selection.ranking import keep_top, standardise, standardise_among


class Tilts:
    """Eight numbers in [-1, 1] whatever n: towards which samples to lean, and how randomly.

    The first seven weigh FEATURES, from -2 to 2 each, into a score; `temperature` t scales Gumbel
    noise by 10^t (Gumbel top-k: samples without replacement from a softmax of the scores; Kool et
    al. 2019). The top scores are kept, as many as spend the rest of the budget evenly. All zeros
    is dynamic random, and small numbers stay near it.

    | feature | meaning |
    |---|---|
    | loss | z-score of `loss_mean` among the visited samples |
    | loss_squared | its square up to 4, minus 1: high and low against middling losses |
    | age | z-score of `age` |
    | unvisited | 1 for samples never visited |
    | margin | z-score of `margin` among the visited samples |
    | loss_in_class | z-score among them of what `loss_mean` exceeds the mean of its class by |
    | deviation | z-score among them of √`loss_var` |

    z-scores are clipped at 3. What is known of visited samples only is 0 for the others, so that
    no weight of it sets these apart: `unvisited` does.
    """

    FEATURES = (
        "loss",
        "loss_squared",
        "age",
        "unvisited",
        "margin",
        "loss_in_class",
        "deviation",
    )
    NAMES: tuple[str, ...] = (*FEATURES, "temperature")
    SCALE = 2.0
    reads = ("loss_mean", "loss_var", "margin", "visits", "age")

    def space(self, num_samples: int) -> spaces.Box:
        """A Box(-1, 1) of len(NAMES) numbers."""
        return spaces.Box(-1.0, 1.0, (len(self.NAMES),), np.float32)

    def decode(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """The top scores of each replica, with weight 1."""
        check_symmetric(action)
        return self._keep(action, tilt_features(context), context).astype(np.float32)

    def _keep(
        self, action: np.ndarray, features: dict[str, np.ndarray], context: ActionContext
    ) -> np.ndarray:
        tilts = self.SCALE * action[:, : len(self.FEATURES)].astype(np.float64)
        uniform = np.maximum(context.rng.random(features["loss"].shape[1]), 1e-300)
        scores = -np.log(-np.log(uniform)) * 10.0 ** action[:, len(self.FEATURES), None]
        for tilt, feature in zip(tilts.T, features.values(), strict=True):
            if tilt.any():
                scores += tilt[:, None] * feature
        counts = np.maximum(1, np.rint(self._visits(action, context))).astype(np.int64)
        return keep_top(scores, counts, context.rng)

    def _visits(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """How many samples to keep, (R,) float64."""
        return context.visits_per_epoch

    def random(self, context: ActionContext) -> np.ndarray:
        """Zeros."""
        return np.zeros((len(context.seeds), len(self.NAMES)), dtype=np.float32)


class WeightedTilts(Tilts):
    """`Tilts`, and three more numbers: what the kept samples weigh.

    They weigh the features of WEIGHTED into the log2 of a sample's gradient weight, clipped to
    [-1, 1]: from half to twice. With weights="mean_one" the mean weight of an epoch stays one.
    """

    WEIGHTED: tuple[str, ...] = ("loss", "loss_squared", "unvisited")
    NAMES = (*Tilts.NAMES, *(f"{name}_weight" for name in WEIGHTED))

    def decode(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        """The top scores of each replica, with weights in [1/2, 2]."""
        check_symmetric(action)
        features = tilt_features(context)
        kept = self._keep(action, features, context)
        logs = sum(
            action[:, len(Tilts.NAMES) + place, None] * features[name]
            for place, name in enumerate(self.WEIGHTED)
        )
        return np.where(kept, 2.0 ** np.clip(logs, -1, 1), 0).astype(np.float32)


class PacedTilts(WeightedTilts):
    """`WeightedTilts`, and two more numbers: small margins weigh, and how much the epoch spends.

    `margin_weight` weighs the margin as the others of WEIGHTED weigh theirs. `pace` p keeps
    FASTEST^p times as many samples as spend the rest of the budget evenly, from a quarter to four
    times, all of them at most: a full first epoch at 30 % of the visits, as many rules begin with,
    is a pace of 0.87 or more.
    """

    WEIGHTED = (*WeightedTilts.WEIGHTED, "margin")
    NAMES = (*WeightedTilts.NAMES, "margin_weight", "pace")
    FASTEST = 4.0

    def _visits(self, action: np.ndarray, context: ActionContext) -> np.ndarray:
        return context.visits_per_epoch * self.FASTEST ** action[:, -1].astype(np.float64)


def tilt_features(context: ActionContext) -> dict[str, np.ndarray]:
    """The features of `Tilts` by name, (R, n) each, finite from the first epoch on."""
    columns = context.columns
    visited = columns["visits"] > 0
    loss_mean = columns["loss_mean"]
    in_class = loss_mean - class_means(
        loss_mean, np.broadcast_to(context.statistics.labels, loss_mean.shape)
    )
    loss = standardise_among(loss_mean, visited)
    return {
        "loss": loss,
        "loss_squared": np.where(visited, np.minimum(loss * loss, 4) - 1, 0),
        "age": standardise(columns["age"]),
        "unvisited": ~visited,
        "margin": standardise_among(columns["margin"], visited),
        "loss_in_class": standardise_among(in_class, visited),
        "deviation": standardise_among(np.sqrt(columns["loss_var"]), visited),
    }
