"""The environment: the view of a single training run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from dynprune_env.common.checks import row_seeds, shown
from dynprune_env.common.pulse import doing, listening
from dynprune_env.envs.infos import info_of_one
from dynprune_env.envs.rendering import Window
from dynprune_env.envs.saving import SavedRuns
from dynprune_env.envs.scoring import EnvScoringRuns
from dynprune_env.envs.vector_env import METADATA, DynPruneVectorEnv
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import row_of
from dynprune_env.tasks.variants import Dataset
from dynprune_env.training.trainer import Evaluation, Trainer


class DynPruneEnv(SavedRuns, gym.Env[Any, np.ndarray]):
    """A training run as an episode: each step is one epoch, each action says what it trains on.

    ## Description

    A model is trained on n samples for at most T epochs under a budget of `budget * T * n` sample
    visits. At each step the agent chooses which samples the next epoch visits, in an order drawn
    from one permutation of all n samples. Keep fewer, pay less. The learning-rate schedule runs on
    progress = max(epoch / T, spent share of the budget), so a run that spends fast gets a
    complete, shorter schedule. Data, model and recipe are the task's (see `TASKS`).

    ## Action Space

    | action | space | meaning |
    |---|---|---|
    | "mask" (default) | MultiBinary(n) | 1 keeps a sample, 0 drops it |
    | "weights" | Box(0, 1, (n,)) | 0 drops, w > 0 keeps with gradient weight w; see `Weights` |
    | "quantiles" | Box(-1, 1, (10,)) | keep probability per loss decile, see `Quantiles` |
    | "strategy" | Discrete(7) | a handwritten strategy for the epoch, see `Strategy` |
    | "tilts" | Box(-1, 1, (8,)) | leans dynamic random towards some samples, see `Tilts` |
    | "weighted_tilts" | Box(-1, 1, (11,)) | the same with gradient weights, see `WeightedTilts` |
    | "paced_tilts" | Box(-1, 1, (13,)) | and with the visits of the epoch, see `PacedTilts` |

    Stable-Baselines3 recommends [-1, 1] for a Box: `gymnasium.wrappers.RescaleAction(env, -1, 1)`
    gives "weights" that range. An empty mask is a legal step without updates.

    ## Observation Space

    "samples" (default): a Dict of (n,) float32 columns, one per statistic of `SampleStatistics` (or
    those that the setting `columns` names), the vector `progress` (see `observations.PROGRESS`),
    and `task_size`, (T, C). "summary": a
    vector of 36 numbers whatever n, see `Summary`. "run": one of 12 numbers, see `Run`; the
    fastest. "diagnostics": these and three more, see `Diagnostics`. Only visited samples are
    re-scored, from the losses that training computes anyway; unvisited ones carry the values of a
    uniform prediction.

    ## Rewards

    | reward | paid | meaning |
    |---|---|---|
    | "val_loss" (default) | every step | L(t-1) - L(t) on the val split, nats |
    | "val_accuracy" | every step | A(t) - A(t-1) on the val split |
    | "log_val_loss" | every step | ln L(t-1) - ln L(t) on the val split |
    | "train_loss" | every step | fall of the visits' mean loss, nats; can be gamed |
    | "final_accuracy" | at the end | the val accuracy reached, in [0, 1] |
    | "final_loss" | at the end | minus the val loss reached, nats |
    | "my_module:function" | every step | what a function of one's own makes of two `Metrics` |

    Those paid at every step telescope to the run's total improvement: for analysis, and where a
    dense signal is wanted. All of them hold much luck of data and seeds, of which little is left
    where runs are compared that differ in nothing but the actions, the `twins` of a
    `DynPruneVectorEnv` in `RelativeRewards`: so policies learn best. The test split reaches no
    reward, observation or info: `env.unwrapped.evaluate("test")` reads it.

    ## Starting State

    A freshly initialised model, drawn from the seed. No sample was ever visited.

    ## Episode End

    Terminates when progress reaches 1: after T epochs, or as soon as the budget is spent (the
    pass that would exceed it stops there). A non-finite loss terminates too, with val loss 20 and
    `info["diverged"]`; where the fresh model has one already, the first step trains nothing and
    ends the episode. Never truncates.

    ## Arguments

    See `Settings`; `render_mode` is "rgb_array" or "human".

    ## References

    Raju, Daruwalla, Lipasti (2021). Accelerating Deep Learning with Dynamic Data Pruning.
    arXiv:2111.12621.

    ## Version History

    * v0: initial version.
    """

    metadata: dict[str, Any] = METADATA

    def __init__(self, render_mode: str | None = None, **settings: Any):
        self.vector = DynPruneVectorEnv(1, AutoresetMode.DISABLED, render_mode, **settings)
        self.settings = self.vector.settings
        self.render_mode = render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self._window: Window | None = None
        self._windowless = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts a new run; returns its observation and info."""
        (seed,) = row_seeds(seed, 1)
        super().reset(seed=seed)
        self.vector.set_generators([self.np_random], [self.np_random_seed])
        with self._watched("the first evaluation"):
            observations, _ = self.vector.reset()
        self._show()
        return row_of(observations), info_of_one(self.vector.told())

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Trains one epoch.

        Returns:
            Observation, reward, terminated, False, info.

        Raises:
            ValueError: the action is not valid; nothing was trained and the episode can go on.
            ResetNeeded: the episode has ended or was never begun.
        """
        if self.vector.ended.item():
            raise ResetNeeded("this episode has ended: call reset() to start another")
        given, shape = np.asarray(action), self.action_space.shape or ()
        if given.shape != shape:
            kind = self.settings.action
            found = given.shape if given.dtype.kind in "biuf" else shown(action)
            raise ValueError(f"expected a {kind!r} action of shape {shape}, got {found}")
        with self._watched(f"epoch {self.trainer.budget.epoch.item() + 1}"):
            rewards, kept = self.vector.advance(given[None])
        self._show()
        info = info_of_one(self.vector.told(kept))
        return self.observe(), rewards.item(), self.vector.ended.item(), False, info

    def evaluate(self, split: str = "test") -> Evaluation:
        """Loss (nats) and accuracy of the current model as floats; "train", "val" or "test"."""
        loss, accuracy = self.vector.evaluate(split)
        return Evaluation(float(loss[0]), float(accuracy[0]))

    @property
    def dataset(self) -> Dataset:
        """The data with what is known about their corruption; for analysis, never observed."""
        return self.vector.dataset

    def episode(self, seed: int) -> Episode:
        """What an agent may know; `seed` is for its own draws."""
        return self.vector.episode(seed)

    def scoring_runs(self, seed: int) -> EnvScoringRuns:
        """Training runs on the same data that an agent may make beforehand, each visit charged."""
        return self.vector.scoring_runs(seed)

    def get_state(self) -> dict[str, Any]:
        """See `DynPruneVectorEnv.get_state`."""
        return self.vector.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """See `DynPruneVectorEnv.set_state`."""
        self.vector.set_state(state)
        self.np_random = self.vector.np_random[0]

    def like_this(self) -> DynPruneEnv:
        """Another environment of the same settings, without a run."""
        other = type(self)(render_mode=self.render_mode, **self.settings.as_dict())
        other.spec = self.spec
        return other

    def observe(self) -> Any:
        """What is observed now; the same as `step` gave."""
        return row_of(self.vector.observe())

    @property
    def trainer(self) -> Trainer:
        """See `DynPruneVectorEnv.trainer`."""
        return self.vector.trainer

    def render(self) -> np.ndarray | None:
        """The panel, (H, W, 3) uint8, under "rgb_array"; "human" shows it at every step."""
        return self.vector.panel(0) if self.render_mode == "rgb_array" else None

    def _show(self) -> None:
        if self.render_mode != "human" or self._windowless:
            return
        try:
            self._window = self._window or Window()
            self._window.show(self.vector.panel(0))
        except RuntimeError as error:  # a machine without a display can still train
            self._windowless = True
            logging.getLogger(__name__).warning("%s", error)

    def _watched(self, what: str) -> AbstractContextManager[None]:
        """Lets the window, if there is one, tell how far the work inside is."""
        return nullcontext() if self._window is None else _telling(self._window, what)

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None


@contextmanager
def _telling(window: Window, what: str) -> Iterator[None]:
    with doing(what), listening(lambda now, share: window.tell(f"{now}, {share:.0%}")):
        yield
