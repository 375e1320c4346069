"""R training runs side by side as one vector environment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dynprune_env.common.alone import as_alone
from dynprune_env.common.checks import agent_seeds, whole
from dynprune_env.envs.frames import Frames
from dynprune_env.envs.infos import final_infos, run_infos, told_of_runs
from dynprune_env.envs.long_steps import warn_of_long_steps
from dynprune_env.envs.rows import SharedRows
from dynprune_env.envs.saving import SavedRuns
from dynprune_env.envs.scoring import EnvScoringRuns, TrainerProbe
from dynprune_env.envs.settings import Settings
from dynprune_env.envs.twins import all_of_group, check_twins, check_whole_groups, twin_seeds
from dynprune_env.selection.actions import ACTIONS, WEIGHING, Action, decode, random_action
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import OBSERVATIONS, TaskSize, progress_vector
from dynprune_env.selection.rewards import Metrics, find_reward
from dynprune_env.tasks.models import make_model
from dynprune_env.tasks.registry import is_own
from dynprune_env.tasks.variants import Dataset, load_dataset
from dynprune_env.training.trainer import Evaluation, Trainer
from dynprune_env.training.trial import check_outputs

METADATA: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 4}


class DynPruneVectorEnv(SavedRuns, SharedRows, VectorEnv[Any, np.ndarray, np.ndarray]):
    """R training runs on one copy of the data, stepped together.

    Row r behaves as a `DynPruneEnv` reset with the r-th seed. See there for the rules of the game.

    With `twins` of M, rows come in R / M groups, the rows from g M to (g + 1) M - 1 being group g:
    they share the run seed, and so the initial model, the order of visits and all noise, also that
    of actions, and differ in nothing but the actions. They end together: a row whose run is over
    idles, with its observation as it is and rewards of 0, until all of its group are over.

    Args:
        num_envs: R, a multiple of `twins`.
        autoreset_mode: what happens when a run ends. `NEXT_STEP` (the default, as of Gymnasium's
            own) starts another one in the step after, `SAME_STEP` at once; under `DISABLED` a
            finished run stays as it is, untouched by further steps, until
            `reset(options={"reset_mask": (R,) bool})`.
        render_mode: "rgb_array" or None.
        twins: M; 1 means that every row is a run of its own.
        **settings: see `Settings`.
    """

    metadata: dict[str, Any] = METADATA

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        twins: int = 1,
        **settings: Any,
    ):
        known = [field.name for field in dataclasses.fields(Settings)]
        for name in settings:
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__}() got an unexpected keyword argument {name!r}; "
                    f"there are {', '.join(known)}"
                )
        num_envs = whole("num_envs", num_envs, 1)
        if render_mode not in (None, *METADATA["render_modes"]):
            raise ValueError(f"render_mode must be 'human', 'rgb_array' or None, got {render_mode}")
        self.settings = Settings(**settings)
        self.settings.check_device()
        self.num_envs, self.twins = num_envs, check_twins(num_envs, twins)
        self.metadata = {**METADATA, "autoreset_mode": AutoresetMode(autoreset_mode)}
        self.render_mode = render_mode

        task = self.settings.resolved
        size = self.settings.num_samples, task.recipe.epochs, task.info.num_classes
        shape = TaskSize(*size, self.settings.observed)
        self._observation = OBSERVATIONS[self.settings.observation](shape)
        self._action: Action = ACTIONS[self.settings.action]()
        self._reward = find_reward(self.settings.reward)
        self.single_observation_space = self._observation.space()
        self.single_action_space = self._action.space(shape.num_samples)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._random: list[np.random.Generator] = []
        self._seeds: list[int] = []
        self._trainer: Trainer | None = None
        zeros = np.zeros(num_envs)
        self._metrics = Metrics(zeros, zeros, zeros, zeros.astype(bool))
        self._frames = Frames(num_envs, self.settings, wanted=render_mode is not None)

    # -- the game -------------------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Starts new runs with freshly drawn models.

        Args:
            seed: s gives row r the seed s + r, or of twins group g the seed s + g; or one seed per
                row or group; None goes on with the generators of the last reset.
            options: `{"reset_mask": (R,) bool}` resets only some rows; twins together.

        Returns:
            Batched observations, infos.
        """
        mask = np.ones(self.num_envs, dtype=bool)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.dtype != bool or mask.shape != (self.num_envs,):
                raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},)")
            if self._trainer is None and not mask.all():
                raise ResetNeeded("the first reset must reset every row")
            check_whole_groups(mask, self.twins)
        seeds = twin_seeds(seed, self.num_envs, self.twins)
        self._seed(np.flatnonzero(mask), seeds)
        self._start(np.flatnonzero(mask))
        return self.observe(), self._info(mask)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Trains one epoch of every running row.

        Args:
            actions: (R, ...) array of `action_space`; masks may be bool, int or float 0 and 1.

        Returns:
            Observations, rewards (R,) float64, terminations (R,) bool, truncations (always
            False), infos.

        Raises:
            ValueError: an action is not valid; nothing was trained and the episode can go on.
            ResetNeeded: `reset` was never called.
        """
        ended_before = self._metrics.ended
        rewards, kept = self.advance(actions)
        terminations = self._metrics.ended.copy()
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and ended_before.any():
            self._start(np.flatnonzero(ended_before))
            terminations, told = terminations & ~ended_before, None
        else:
            told = ~ended_before
        observations, infos = self.observe(), self._info(told, kept)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and terminations.any():
            final = final_infos(observations, infos, terminations)
            self._start(np.flatnonzero(terminations))
            observations, infos = self.observe(), self._info(None, np.where(terminations, 0, kept))
            infos |= final
        return observations, rewards, terminations, np.zeros_like(terminations), infos

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a step does to the runs, without what it hands out: no row starts anew.

        Args:
            actions: as `step` takes them.

        Returns:
            Rewards (R,) float64, and how many samples each row has trained, (R,) int64.

        Raises:
            ValueError: an action is not valid; nothing was trained and the episode can go on.
            ResetNeeded: `reset` was never called.
        """
        trainer, before = self.trainer, self._metrics
        weights = self._decode(actions)
        self._frames.decide(trainer)
        trained = trainer.train_epoch(weights)
        ended = all_of_group(trainer.finished, self.twins)
        (rows,) = trainer.running.nonzero()
        self._metrics = now = self._measured(rows, trainer.val, ended)
        idle = before.ended | ~(trainer.running | ended)  # a twin waits for the end of its group
        rewards = self._reward(before, now)
        rewards[idle] = 0.0
        self._frames.add(rows, trained, trainer, now)
        return rewards, np.array([len(order) for order in trained])

    def evaluate(self, split: str = "test") -> Evaluation:
        """Loss (nats) and accuracy of the current models, (R,) each.

        The only way to the test split: no reward, observation or info holds it.

        Args:
            split: "train", "val" or "test".
        """
        return self.trainer.evaluate(split)

    def random_actions(self) -> np.ndarray:
        """The (R, ...) actions that play dynamic random now: uniform subsets at an even pace.

        They are the same each time until the next step; twins draw alike.
        """
        t = self.trainer
        return random_action(self.settings.action, t.statistics, t.budget, t.seeds)

    # -- what is known about it -----------------------------------------------------------------

    @property
    def trainer(self) -> Trainer:
        """The engine; for analysis.

        Raises:
            ResetNeeded: `reset` was never called.
        """
        if self._trainer is None:
            raise ResetNeeded("call reset() first")
        return self._trainer

    @property
    def ended(self) -> np.ndarray:
        """Whether each row's episode is over, (R,) bool: its run is, and those of all its twins."""
        return self._metrics.ended.copy()

    @property
    def dataset(self) -> Dataset:
        """A copy of the data, with what is known of their corruption; for analysis only."""
        with as_alone():
            return self.trainer.dataset.apart

    def episode(self, seeds: int | Sequence[int]) -> Episode:
        """What an agent may know; `seeds`, one per replica, are for its own draws."""
        task, seeds = self.settings.resolved, agent_seeds(seeds)
        return Episode(
            num_samples=self.settings.num_samples,
            num_classes=task.info.num_classes,
            epochs=task.recipe.epochs,
            budget=self.settings.budget,
            seeds=seeds,
            probe=TrainerProbe(self.trainer, batched=isinstance(seeds, tuple)),
            action=self.settings.action,
            observation=self.settings.observation,
        )

    def scoring_runs(self, seeds: int | Sequence[int]) -> EnvScoringRuns:
        """Training runs on the same data that an agent may make beforehand, each visit charged."""
        seeds = agent_seeds(seeds)
        settings = self.settings.as_dict() | {
            "budget": 1.0,
            "action": "mask",
            "observation": "samples",
            "observe": "visited",
        }
        return EnvScoringRuns(
            partial(type(self), np.size(seeds), AutoresetMode.DISABLED, **settings),
            seeds,
            self.settings.recipe.epochs,
            self.settings.num_samples,
        )

    def set_generators(self, generators: list[np.random.Generator], seeds: list[int]) -> None:
        """Row r draws the seeds of its runs from the r-th of these, made from these seeds."""
        self._random, self._seeds = generators, seeds

    @property  # type: ignore[misc]
    def np_random(self) -> Any:
        """The generators that draw the runs' seeds, one per row."""
        return tuple(self._random)

    @property
    def np_random_seed(self) -> Any:
        """The seeds of these generators, one per row; -1 where unknown."""
        return tuple(self._seeds)

    # -- state ----------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on: tensors, numbers and strings, all copies."""
        trainer = self.trainer
        return {
            "settings": self._signature(),
            "trainer": trainer.state(),
            "metrics": {
                name: torch.from_numpy(value.copy())
                for name, value in dataclasses.asdict(self._metrics).items()
            },
            "random": [json.dumps(rng.bit_generator.state) for rng in self._random],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `get_state` gave, there or in another process.

        The next steps are the same, bit for bit on a CPU. The panel of `render` starts anew.

        Raises:
            ValueError: the state is of a game with other settings, or of one that kept fewer
                columns.
        """
        if state["settings"] != self._signature():
            raise ValueError(
                f"the state was made with the settings {state['settings']}, "
                f"this environment has {self._signature()}"
            )
        trainer = self._trainer or self._make_trainer()
        trainer.load_state(state["trainer"])
        self._trainer = trainer
        self._metrics = Metrics(**{k: v.numpy().copy() for k, v in state["metrics"].items()})
        self._random = [np.random.default_rng() for _ in range(self.num_envs)]
        self._seeds = [-1] * self.num_envs
        for rng, text in zip(self._random, state["random"], strict=True):
            rng.bit_generator.state = json.loads(text)
        self._frames.start(range(self.num_envs), self._trainer, self._metrics)

    def like_this(self) -> DynPruneVectorEnv:
        """Another environment of the same settings, without a run."""
        settings = self.settings.as_dict()
        kinds = self.num_envs, self.autoreset_mode, self.render_mode, self.twins
        other = type(self)(*kinds, **settings)
        other.spec = self.spec
        return other

    def _signature(self) -> str:
        """The settings that a state belongs to; where it runs and what it keeps are none."""
        settings, recipe = self.settings.as_dict(), self.settings.recipe
        for name in ("device", "deterministic", "columns", "data_dir", "download"):
            del settings[name]
        settings |= {"num_envs": self.num_envs, "twins": self.twins}
        settings |= {name: getattr(recipe, name) for name in ("optimizer", "schedule", "loss")}
        return json.dumps(settings, sort_keys=True)

    # -- rendering ------------------------------------------------------------------------------

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One (H, W, 3) uint8 panel per row, None without render_mode."""
        if self.render_mode is None:
            return None
        return tuple(self.panel(row) for row in range(self.num_envs))

    def panel(self, row: int) -> np.ndarray:
        """What `render` draws of one row, (H, W, 3) uint8; needs a render_mode."""
        return self._frames.panel(row)

    # -- parts of a step ------------------------------------------------------------------------

    def _make_trainer(self) -> Trainer:
        settings, task = self.settings, self.settings.resolved
        device, info = settings.find_device(), task.info
        data = load_dataset(info, task.variant, settings.data_dir, settings.download, device)
        make = partial(make_model, task.model, info.input_shape, info.outputs)
        if is_own(settings.task):
            with as_alone(device):
                check_outputs(settings.task, make, data, task.recipe, device)
        return Trainer(
            make,
            data,
            task.recipe,
            self.num_envs,
            budget=settings.budget,
            raw_weights=settings.weights == "raw" or settings.action not in WEIGHING,
            rescore=settings.observe == "all",
            device=device,
            threads=settings.threads,
            learner=settings.learner,
            averaging=settings.averaging,
            bf16=settings.use_bf16(device),
            torch_compile=settings.compile,
            deterministic=settings.deterministic,
            columns={
                *settings.observed,
                *self._observation.reads,
                *self._action.reads,
                *(Frames.READS if self._frames.wanted else ()),
            },
        )

    def _seed(self, rows: np.ndarray, seeds: list[int | None]) -> None:
        """Gives these rows new generators; None keeps the one that a row has."""
        first = not self._random
        if first:
            self._random = [np.random.default_rng(0)] * self.num_envs
            self._seeds = [-1] * self.num_envs
        for row in rows.tolist():
            if first or seeds[row] is not None:
                # Twins draw alike, also where nobody chose the seed.
                own = self._seeds[row - 1] if row % self.twins else seeds[row]
                self._random[row], self._seeds[row] = seeding.np_random(own)

    def _start(self, rows: np.ndarray) -> None:
        """Begins a new run in each of these rows."""
        if self._trainer is None:
            self._trainer = self._make_trainer()
            warn_of_long_steps(self._trainer, self.settings)
        self._trainer.reset(rows, [int(self._random[row].integers(2**31)) for row in rows])
        ended = self._metrics.ended.copy()
        ended[rows] = False
        self._metrics = self._measured(rows, self._trainer.evaluate("val", rows), ended)
        self._frames.start(rows.tolist(), self._trainer, self._metrics)

    def _measured(self, rows: np.ndarray, val: Evaluation, ended: np.ndarray) -> Metrics:
        """How well all rows do: some as just measured, the others as before."""
        loss, accuracy = self._metrics.val_loss.copy(), self._metrics.val_accuracy.copy()
        loss[rows], accuracy[rows] = val
        return Metrics(loss, accuracy, self.trainer.train_loss.copy(), ended)

    def _decode(self, actions: np.ndarray) -> np.ndarray:
        """Checked actions as (R, n) float32 gradient weights."""
        trainer = self.trainer
        return decode(
            self.settings.action, actions, trainer.statistics, trainer.budget, trainer.seeds
        )

    def observe(self) -> Any:
        """What is observed now, batched; the same as `step` gave."""
        trainer = self.trainer
        progress = progress_vector(trainer.budget, self._metrics)
        return self._observation.observe(trainer.statistics.lend(trainer.budget.epoch), progress)

    def told(self, kept: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What infos say now, (R,) each; `kept` as `advance` gave it."""
        return told_of_runs(self.trainer, self._metrics, kept)

    def _info(self, mask: np.ndarray | None, kept: np.ndarray | None = None) -> dict[str, Any]:
        return run_infos(self.told(kept), mask)
