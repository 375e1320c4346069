"""Training with Stable-Baselines3: its algorithms on mixtures of tasks, segment by segment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from dynprune_agents.learning.hyperparameters import checked_hyperparameters
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture, TaskDraw
from dynprune_agents.learning.policy_fit import check_policy_fits
from dynprune_agents.learning.sb3_algorithms import ALGORITHMS, PER_SAMPLE, Algorithm, Rollout
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_agents.policies._files import find_policy, named
from dynprune_agents.policies._sb3_arrays import read_arrays
from dynprune_agents.policies._sb3_files import NOT_FOR_TRAINING, save_model
from dynprune_agents.policies._set_policy import SetPolicy
from dynprune_agents.policies.sb3 import SB3
from dynprune_env.common.checks import shown, whole
from dynprune_env.common.randomness import kept_generators
from dynprune_env.common.specs import lookup
from dynprune_env.envs.relative import KINDS, RelativeRewards
from dynprune_env.selection.rewards import REWARDS, TERMINAL

GROUP_SIZE = 8
"""Default of `twins`. Fewer draws mean larger, faster stacks of networks; more draws
mean updates that fit one of them less."""

LAST_RATE = 0.1
"""Share of the learning rate that is left at the end of a training."""


class SB3Trainer:
    """Improves a policy of Stable-Baselines3; see `PolicyTrainer`.

    An update is a segment: new draws of the mixture are made, every generator is seeded from
    (seed, segment), each replica plays an episode, and the algorithm learns from it. The global
    generators of Python, numpy and torch, which Stable-Baselines3 uses, are left as they were.

    Args:
        algo: a name in `ALGORITHMS`.
        mixture: what tasks are drawn from.
        num_envs: R, replicas that the algorithm learns from; at most `twins` play the same draw.
        steps: environment steps in all, over which the learning rate falls linearly to LAST_RATE
            of itself, or follows its schedule; None leaves it as it is at first.
        seed: of everything.
        observation, action: kinds; `samples` and `mask` are for a `SetPolicy`.
        reward: what the environment pays: learnt from where `relative` is "none", else only shown.
        twins: most replicas that play the same draw: with the same run seed unless `relative` is
            "none", and at least 2 for "rank" and "mean".
        relative: "rank", "mean" or "random", see `RelativeRewards`; "none" for the environment's
            own rewards; None for what fits the algorithm.
        hyperparameters: of the algorithm, in place of our defaults.
        normalise_reward: whether rewards are divided by the running deviation of their sums; None
            for all but ranks.
        start: the policy whose networks are trained further, a name or the path of an .npz; None
            for fresh ones.
        device: of the policy.
        tensorboard: folder of its logs.

    Raises:
        ValueError: the algorithm cannot choose such actions or is not installed, the mixture
            holds something that the environment refuses, draws of different size do not fit
            together, or the networks of `start` are others than those of this training.
    """

    def __init__(
        self,
        algo: str,
        mixture: Mixture,
        *,
        num_envs: int = 32,
        steps: int | None = None,
        seed: int = 0,
        observation: str = "run",
        action: str = "tilts",
        reward: str = "val_accuracy",
        twins: int = GROUP_SIZE,
        relative: str | None = None,
        hyperparameters: dict[str, Any] | None = None,
        normalise_reward: bool | None = None,
        start: str | None = None,
        device: str = "cpu",
        tensorboard: Path | None = None,
    ):
        self.algo, self.seed = algo, seed
        self.segment = self.steps = self.visits = 0
        self.seconds_in_env = 0.0
        self.between: Callable[[], None] = lambda: None  # an update is whole, or not begun
        self.algorithm: Algorithm = lookup(algo, ALGORITHMS, "algorithm")
        make = self.algorithm.load()
        if action not in self.algorithm.actions:
            raise ValueError(
                f"{algo} cannot choose actions of the kind {action!r}; it can choose "
                f"{', '.join(self.algorithm.actions)}"
            )
        if observation == "samples" and not self.algorithm.dicts:
            raise ValueError(
                f"{algo} has no policy for observations of several arrays: expected run, "
                f"diagnostics or summary, got {observation!r}"
            )
        kinds = {"observation": observation, "action": action, "reward": reward}
        self.mixture = replace(mixture, env_kwargs={**mixture.env_kwargs, **kinds})
        _check_sizes(self.mixture.check(), observation, action)
        self.num_envs, self.total = num_envs, steps
        self.relative = relative or self.algorithm.relative or "none"
        self.twins = self._check_twins(twins)
        self._venv = DynPruneVecEnv(self._draw_groups()[0], repeated=self.algorithm.repeated)
        self._env: VecEnv = VecMonitor(self._venv)
        if normalise_reward is None:
            normalise_reward = self.relative != "rank"
        if normalise_reward and not self.algorithm.repeated:
            # gamma is that of the return by whose deviation rewards are divided.
            self._env = VecNormalize(self._env, norm_obs=False, gamma=1.0)

        is_set = (observation, action) == ("samples", "mask")
        stock = "MultiInputPolicy" if observation == "samples" else self.algorithm.policy
        policy = SetPolicy if is_set else stock
        spaces_ = self._venv.observation_space, self._venv.action_space
        check_policy_fits(policy, *spaces_)
        self._rollout = Rollout(
            epochs=self._longest(),
            num_envs=num_envs,
            action_space=self._venv.action_space,
            observation_space=self._venv.observation_space,
            set_policy=is_set,
            at_end=self.relative != "none" or REWARDS.get(reward) in TERMINAL,
        )
        chosen = checked_hyperparameters(algo, make, hyperparameters or {})
        self.hyperparameters = _merged(self.algorithm.defaults(self._rollout), chosen)
        self._logger = _make_logger(tensorboard)
        with _undisturbed_generators(), _naming(algo, chosen):
            self.model = make(
                policy,
                self._env,
                seed=seed,
                device=device,
                **_with_buffer(self.hyperparameters, make),
            )
        self.model.set_logger(self._logger)
        self.start = named(start)
        if start is not None:
            self._take_over(start)

    def _take_over(self, start: str) -> None:
        """The weights of a policy that was trained before.

        Raises:
            ValueError: they are those of other networks.
        """
        ours: Any = self.model.policy
        given = read_arrays(find_policy(start))
        theirs = given.state_dict()
        if type(given) is not type(ours) or shapes_of(theirs) != shapes_of(ours.state_dict()):
            raise ValueError(
                f"--start {start} has other networks than this training: it needs the same "
                "algorithm, observation and action kinds, and policy_kwargs"
            )
        ours.load_state_dict(theirs)

    # -- training -------------------------------------------------------------------------------

    def advance(self) -> dict[str, float]:
        """One segment.

        Returns:
            `return`, the mean of the episodes that ended, `episodes`, how many these were, and
            what the algorithm logs.
        """
        groups, seed = self._draw_groups()
        self._venv.replace_groups(groups)
        with _undisturbed_generators():
            self.model.set_env(self._env)  # forces a reset
            self.model.set_random_seed(seed)
            self._set_learning_rate()
            # ARS plays all its episodes in any case.
            steps = 1 if self.algo == "ars" else self._rollout.segment
            self.model.learn(steps, reset_num_timesteps=False, log_interval=None)
        if isinstance(self.model, OffPolicyAlgorithm):
            _end_segment(self.model.replay_buffer)
        self.segment += 1
        self.steps, self.visits = self._venv.steps, self._venv.visits
        self.seconds_in_env = self._venv.seconds
        returns = self._venv.returns
        mean = float(np.mean(returns)) if returns else float("nan")
        log = {"return": mean, "episodes": float(len(returns))}
        for name, value in log.items():
            self._logger.record(f"rollout/{name}", value)
        for name, value in self._logger.name_to_value.items():
            # Where all returns are alike, the explained variance is not a number.
            if name.startswith("train/") and np.isfinite(value):
                log[name.removeprefix("train/")] = float(value)
        self._logger.dump(self.steps)
        return log

    def _draw_groups(self) -> tuple[list[Any], int]:
        """The vector environments of this segment, and the seed of all that is drawn in it."""
        rng = np.random.default_rng([self.seed, self.segment])
        parts = np.array_split(np.arange(self.num_envs), -(-self.num_envs // self.twins))
        groups = [self._make_group(self.mixture.draw(rng), len(part)) for part in parts]
        return groups, int(rng.integers(FIRST_SEED, (1 << 31) - self.num_envs))

    def _make_group(self, draw: TaskDraw, size: int) -> Any:
        """Replicas of one draw, twins where the algorithm learns from their differences."""
        if self.relative == "none":
            return draw.make(size, AutoresetMode.SAME_STEP)
        size += self.relative == "random"  # one more plays dynamic random, unseen
        group = draw.make(size, AutoresetMode.SAME_STEP, size)
        return RelativeRewards(group, kind=self.relative)

    def _check_twins(self, twins: int) -> int:
        """How many replicas play the same draw.

        Raises:
            ValueError: they cannot be compared, or the algorithm does not learn from that.
        """
        lookup(self.relative, dict.fromkeys((*KINDS, "none")), "kind of relative rewards")
        twins = whole("twins", twins, 1)
        if self.relative == "none":
            return twins
        if self.algorithm.repeated:
            raise ValueError(
                f'{self.algo} compares policies by the sums of their rewards: relative is "none" '
                f"for it, got {self.relative!r}"
            )
        smallest = self.num_envs // -(-self.num_envs // twins)
        if smallest == 1 and self.relative != "random":
            raise ValueError(
                f"relative rewards compare at least 2 twins, got num_envs={self.num_envs} in "
                f'groups of at most {twins}; or say relative="none"'
            )
        return twins

    def _set_learning_rate(self) -> None:
        """Of the next segment: Stable-Baselines3 knows nothing of those that follow."""
        rate = self.hyperparameters.get("learning_rate")
        if self.total is None or rate is None or self.algorithm.repeated:
            return
        left = max(0.0, 1 - self.steps / self.total)
        self.model.learning_rate = rate(left) if callable(rate) else rate * max(LAST_RATE, left)
        self.model._setup_lr_schedule()

    def _longest(self) -> int:
        """T of the longest draw."""
        own = [self.mixture.env_kwargs.get("epochs")]
        return max(
            TaskDraw(env, {**self.mixture.env_kwargs, "epochs": length}).settings().recipe.epochs
            for env in self.mixture.envs
            for length in self.mixture.choices(env).get("epochs", own)
        )

    # -- what comes out -------------------------------------------------------------------------

    def agent(self) -> SB3:
        """The policy as it is now."""
        return SB3.of(self.model, self.algo)

    def save(self, path: Path) -> None:
        """Writes what the agent `SB3` plays; see `save_model`."""
        origin = {
            "algorithm": self.algo,
            "mixture": asdict(self.mixture),
            "hyperparameters": {name: repr(v) for name, v in self.hyperparameters.items()},
            "num_envs": self.num_envs,
            "twins": self.twins,
            "relative": self.relative,
            "seed": self.seed,
            "start": self.start,
            "segments": self.segment,
            "steps": self.steps,
            "visits": self.visits,
        }
        save_model(path, self.model, origin)

    def save_checkpoint(self, folder: Path) -> None:
        """Writes everything that the next segment depends on."""
        self.model.save(folder / "model.zip", exclude=NOT_FOR_TRAINING)
        if isinstance(self.model, OffPolicyAlgorithm):
            self.model.save_replay_buffer(folder / "replay.pkl")
        names = ("segment", "steps", "visits", "seconds_in_env")
        state: dict[str, Any] = {name: getattr(self, name) for name in names}
        if isinstance(self._env, VecNormalize):
            rms = self._env.ret_rms
            state["rewards"] = [float(rms.mean), float(rms.var), float(rms.count)]
        (folder / "trainer.json").write_text(json.dumps(state), encoding="utf-8")

    def load_checkpoint(self, folder: Path) -> None:
        """Goes on from there. Unpickles, like all of Stable-Baselines3: trusted files only."""
        state = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
        with _undisturbed_generators():
            self.model = type(self.model).load(
                folder / "model.zip", env=self._env, device=self.model.device
            )
        self.model.set_logger(self._logger)
        if isinstance(self.model, OffPolicyAlgorithm):
            self.model.load_replay_buffer(folder / "replay.pkl")
        if self.algo == "ars":  # its `load` leaves the vector that it perturbs at zero
            flat = torch.nn.utils.parameters_to_vector(self.model.policy.parameters())
            self.model.weights = flat.detach()
        self.segment = state["segment"]
        self.steps = self._venv.steps = state["steps"]
        self.visits = self._venv.visits = state["visits"]
        self.seconds_in_env = self._venv.seconds = state["seconds_in_env"]
        if isinstance(self._env, VecNormalize):
            rms = self._env.ret_rms
            mean, variance, rms.count = state["rewards"]
            rms.mean, rms.var = np.array(mean), np.array(variance)


def shapes_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    """The shape of each of them."""
    return {name: value.shape for name, value in weights.items()}


def _check_sizes(sizes: set[int], observation: str, action: str) -> None:
    """Checks that the draws of a mixture fit one network.

    Raises:
        ValueError: it sees or chooses something for each sample, and their numbers differ.
    """
    if len(sizes) > 1 and (observation == "samples" or action in PER_SAMPLE):
        found = ", ".join(f"{size:,}" for size in sorted(sizes)[:5])
        raise ValueError(
            f"with observation={observation!r} and action={action!r} all draws need the same "
            f"number of samples, got {found}; give all of them the same train_size"
        )


def _merged(defaults: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """Chosen values in place of the defaults, in `policy_kwargs` one by one."""
    networks = {**defaults.get("policy_kwargs", {}), **(chosen.get("policy_kwargs") or {})}
    return {**defaults, **chosen, **({"policy_kwargs": networks} if networks else {})}


@contextmanager
def _naming(algo: str, chosen: dict[str, Any]) -> Iterator[None]:
    """Names the hyperparameters if Stable-Baselines3 makes no model of them.

    Raises:
        ValueError: it does not.
    """
    try:
        yield
    except Exception as error:  # it raises whatever it comes upon
        if not chosen:
            raise
        given = ", ".join(f"{name}={shown(value)}" for name, value in chosen.items())
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"Stable-Baselines3 makes no {algo} with {given}: {why}") from error


def _end_segment(buffer: Any) -> None:
    """Marks where episodes are cut: returns over several steps must not go on in the next ones."""
    last = buffer.pos - 1
    buffer.timeouts[last] = np.logical_or(buffer.timeouts[last], 1 - buffer.dones[last])


def _with_buffer(settings: dict[str, Any], make: type[BaseAlgorithm]) -> dict[str, Any]:
    """The buffer of returns over several steps by name: a model that knows it can be loaded."""
    steps = settings.get("n_steps", 1)
    if not issubclass(make, OffPolicyAlgorithm) or steps == 1 or "replay_buffer_class" in settings:
        return settings
    buffer = {
        "replay_buffer_class": NStepReplayBuffer,
        "replay_buffer_kwargs": {"n_steps": steps, "gamma": settings.get("gamma", 0.99)},
    }
    return {name: value for name, value in settings.items() if name != "n_steps"} | buffer


def _make_logger(tensorboard: Path | None) -> Logger:
    if tensorboard is None:
        return Logger(folder=None, output_formats=[])
    if find_spec("tensorboard") is None:
        raise ValueError("TensorBoard is not here: pip install tensorboard")
    return configure(str(tensorboard), ["tensorboard"])


def _undisturbed_generators() -> AbstractContextManager[None]:
    """Puts all global generators back: Stable-Baselines3 seeds them and draws from them."""
    return kept_generators(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ())
