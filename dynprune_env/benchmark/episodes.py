"""Playing episodes and keeping what happened: many seeds side by side, from where they stood."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import wraps
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from dynprune_env.benchmark.best_epoch import BestEpochs
from dynprune_env.benchmark.checkpoints import Checkpoint, Stopped
from dynprune_env.benchmark.fingerprint import Fingerprint, differences
from dynprune_env.benchmark.identity import fingerprint
from dynprune_env.benchmark.recording import RunLog
from dynprune_env.benchmark.results import Result, RunConfig
from dynprune_env.benchmark.warming import warm_up
from dynprune_env.common.checks import run_seeds, shown
from dynprune_env.common.provenance import commit, machine, versions
from dynprune_env.common.pulse import Listener, doing, listening
from dynprune_env.common.registration import split_id
from dynprune_env.common.threads import one_blas_thread, torch_threads
from dynprune_env.envs.settings import Settings, known_env, settings_of
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.agent import SelectionAgent, check_agent, columns_read, reading
from dynprune_env.selection.agent_state import pack_agent, unpack_agent

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunGroup:
    """Runs that are played together, on one replica axis: the same but for the seed.

    `env` may have a module in front, which whoever plays imports; the runs are of the id alone.
    `agent` is the spec as the agent itself spells it, its repr.
    """

    env: str
    env_kwargs: dict[str, Any]
    agent: str
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks the seeds.

        Raises:
            ValueError: there is none, one occurs twice, or is no whole number from 0.
        """
        object.__setattr__(self, "seeds", run_seeds(self.seeds))

    def configs(self) -> list[RunConfig]:
        """One configuration per seed."""
        _, env = split_id(self.env)
        return [RunConfig(env, self.env_kwargs, self.agent, seed) for seed in self.seeds]

    @property
    def key(self) -> str:
        """Hash of the configurations; the name of the file with their unfinished state."""
        keys = "".join(config.key for config in self.configs())
        return hashlib.sha256(keys.encode()).hexdigest()[:16]


def run_episodes(
    env: str,
    agent: SelectionAgent,
    seeds: Sequence[int],
    *,
    env_kwargs: dict[str, Any] | None = None,
    device: str = "auto",
    data_dir: str | None = None,
    imports: Sequence[str] = (),
    on_epoch: Callable[[np.ndarray], None] | None = None,
    checkpoint: Checkpoint | None = None,
    best_epoch: bool = False,
) -> list[Result]:
    """Plays one episode per seed, side by side, and evaluates each on the test split, at its end.

    Args:
        env: Gymnasium id, e.g. "DynPrune-Digits-v0"; a module in front of it is imported, as
            `gym.make` does, and is no part of a run's configuration.
        agent: chooses the actions; its repr is its label in the results.
        seeds: one run each, whole numbers from 0, none twice; a run's numbers depend on its own
            seed, not on the company.
        env_kwargs: keyword arguments of the environment. Unless they name `columns`, it keeps
            those that the agent reads, and those that the results are made from.
        device: where to train; not part of a run's configuration.
        data_dir: folder of the data sets, likewise.
        imports: modules that register tasks: they count as code that decides numbers.
        on_epoch: called after each epoch with the (R,) progress, in [0, 1].
        checkpoint: saves the runs between epochs; where it holds a state of runs of all these
            seeds (and perhaps of more), made by the same code, policies, data and libraries on
            the same kind of device, they go on from there.
        best_epoch: records also the test accuracy at the epoch whose val accuracy was best; no
            other number changes, and the time that it takes is not among the `seconds`.

    Returns:
        One result per seed, or per seed of the state that was gone on from.

    Raises:
        ValueError: an argument of the environment, a seed or the agent is not valid.
        Stopped: the checkpoint said so, and has saved the runs; what an agent prepares before them
            is not saved, and done again.
    """
    check_agent(agent)
    _check_kinds(env_kwargs, on_epoch, checkpoint)
    seeds = run_seeds(seeds)
    trust = checkpoint is not None and checkpoint.trust
    game = _EpisodeRunner(
        env, agent, env_kwargs or {}, device, data_dir, imports, trust, best_epoch
    )
    state = checkpoint.load() if checkpoint else None
    if state and set(seeds) <= set(state["seeds"]) and game.made(state["origin"]):
        if "results" in state:
            return list(state["results"])
        seeds = state["seeds"]
    else:
        state = None
    game.make(seeds)
    if state is None or not game.go_on(state):
        with listening(_stopper(checkpoint)):
            game.begin()
        if checkpoint:
            checkpoint.check_agent(agent)
        if checkpoint and game.prepared:
            checkpoint.pause(game.state)  # that may have taken longer than any epoch
    while not game.over:
        progress = game.step()
        if on_epoch is not None:
            on_epoch(progress)
        if checkpoint and not game.over:
            checkpoint.pause(game.state)
    results = game.results()
    if checkpoint and len(results) > 1:
        # Were a few of their files lost, the rest would be played in another company.
        ended = {"seeds": list(seeds), "origin": game.origin(), "results": results}
        checkpoint.save(lambda: ended)
    return results


def _check_kinds(env_kwargs: Any, on_epoch: Any, checkpoint: Any) -> None:
    """Checks what is used late.

    Raises:
        ValueError: it is of another kind.
    """
    kinds = (
        ("env_kwargs", env_kwargs, isinstance(env_kwargs, dict), "a dict"),
        ("on_epoch", on_epoch, callable(on_epoch), "a function of the progress"),
        ("checkpoint", checkpoint, isinstance(checkpoint, Checkpoint), "a Checkpoint"),
    )
    for name, given, fits, kind in kinds:
        if given is not None and not fits:
            raise ValueError(f"{name} is {kind}, got {shown(given)}")


def _stopper(checkpoint: Checkpoint | None) -> Listener:
    """Raises in the middle of what is prepared: there is nothing to be saved yet."""

    def stop(what: str, share: float) -> None:
        if checkpoint is not None and checkpoint.stopping():
            raise Stopped

    return stop


def _few_threads(method: Callable[[_EpisodeRunner], T]) -> Callable[[_EpisodeRunner], T]:
    """What an agent computes rounds alike in every process: with the threads of the settings."""

    @wraps(method)
    def limited(game: _EpisodeRunner) -> T:
        with torch_threads(game.threads), one_blas_thread():
            return method(game)

    return limited


class _EpisodeRunner:
    """Runs under way, side by side: what `run_episodes` steps and a checkpoint keeps."""

    def __init__(
        self,
        env: str,
        agent: SelectionAgent,
        env_kwargs: dict[str, Any],
        device: str,
        data_dir: str | None,
        imports: Sequence[str],
        trust: bool,
        best_epoch: bool,
    ):
        self._env, self._agent = known_env(env), agent
        self._imports = (*imports, *split_id(env)[0])
        self._best_epoch = best_epoch
        self._env_kwargs = {"budget": Settings.budget, **env_kwargs}
        self._arguments = dict(agent.env_kwargs) | self._env_kwargs
        columns = self._arguments.get("columns", columns_read(agent))
        if isinstance(columns, tuple | list):  # else all, or what the settings refuse
            self._arguments["columns"] = [*columns, *RunLog.READS]
        self._trust = trust
        self._arguments |= {"device": device, "data_dir": data_dir}
        # As the runs begin: what is edited meanwhile has no part in them.
        self._fingerprint = self._now()
        self._before = {"total": 0.0, "train": 0.0, "evaluate": 0.0}
        self._spent = {"prepare": 0.0, "select": 0.0}
        self.over = False

    def _settings(self) -> Settings:
        return settings_of(self._env, self._arguments)

    def _now(self) -> Fingerprint:
        return fingerprint(self._settings(), [self._agent], self._imports)

    def make(self, seeds: Sequence[int]) -> None:
        """Makes the environment of runs with these seeds; their seconds count from here."""
        warm_up(self._settings(), self._agent)
        self._start = time.perf_counter()
        self._group = RunGroup(self._env, self._env_kwargs, repr(self._agent), tuple(seeds))
        vector = gym.make_vec(
            self._env,
            num_envs=len(seeds),
            autoreset_mode=AutoresetMode.DISABLED,
            **self._arguments,
        )
        assert isinstance(vector, DynPruneVectorEnv)
        self._vector, self.threads = vector, vector.settings.threads

    def origin(self) -> dict[str, Any]:
        """What made the runs, for their state."""
        return {
            "fingerprint": asdict(self._fingerprint),
            "versions": dict(versions()),
            "best_epoch": self._best_epoch,
        }

    def made(self, origin: dict[str, Any]) -> bool:
        """Whether a state is gone on with: only if all that made it is the same."""
        if origin["versions"] != dict(versions()):
            return False
        if origin.get("best_epoch", False) != self._best_epoch:
            return False
        return not differences(Fingerprint(**origin["fingerprint"]), self._fingerprint)

    @_few_threads
    def begin(self) -> None:
        """Starts the runs, after what the agent prepares."""
        seeds = self._group.seeds
        self._observation, _ = self._vector.reset(seed=list(seeds))
        start = time.perf_counter()
        runs = self._vector.scoring_runs(seeds)
        with doing("scoring beforehand"), reading(self._agent):
            self._agent.prepare(runs)
        self._spent["prepare"] = time.perf_counter() - start
        self._preparation = runs.visits
        self._record()
        self._agent.reset(self._vector.episode(seeds))

    def _record(self) -> None:
        """Makes what records the runs."""
        self._log = RunLog(self._vector)
        self._best = BestEpochs(self._vector) if self._best_epoch else None

    @property
    def prepared(self) -> bool:
        """Whether the agent made training runs of its own."""
        return bool(self._preparation.any())

    @_few_threads
    def step(self) -> np.ndarray:
        """Plays one epoch; returns the (R,) progress, in [0, 1]."""
        began = time.perf_counter()
        with reading(self._agent):
            action = self._agent.select(self._observation)
        self._spent["select"] += time.perf_counter() - began
        done = self._vector.trainer.budget.epoch.max()
        with doing(f"epoch {done + 1} of {self._vector.settings.recipe.epochs}"):
            observation, reward, terminated, _, self._info = self._vector.step(action)
        stepped, began = time.perf_counter() - began, time.perf_counter()
        with reading(self._agent):
            self._agent.update(self._observation, action, reward, observation)
        self._spent["select"] += time.perf_counter() - began
        self._log.add(self._info, reward, stepped)
        if self._best is not None:
            self._best.add(self._info)
        self._observation, self.over = observation, bool(terminated.all())
        progress: np.ndarray = self._info["run_progress"]
        return progress

    def _seconds(self) -> dict[str, float]:
        """Seconds so far, those before an interruption included."""
        apart = 0.0 if self._best is None else self._best.seconds
        total = time.perf_counter() - self._start - apart
        now = {**self._vector.trainer.seconds, "total": total}
        return self._spent | {name: self._before[name] + value for name, value in now.items()}

    def state(self) -> dict[str, Any]:
        """All that the next epochs depend on, to be saved before they begin."""
        return {
            "seeds": list(self._group.seeds),
            "origin": self.origin(),
            "game": self._vector.get_state(),
            "agent": pack_agent(self._agent, pickled=self._trust),
            "observation": self._observation,
            "log": self._log.state(),
            "best": None if self._best is None else self._best.state(),
            "preparation": self._preparation,
            "seconds": self._seconds(),
        }

    def go_on(self, state: dict[str, Any]) -> bool:
        """Takes what `state` gave, there or in another process; the numbers will be the same.

        Returns:
            Whether it could be; if not, the runs have to begin again.
        """
        vector = self._vector
        try:
            vector.set_state(state["game"])
            probe = vector.episode(self._group.seeds).probe
            unpack_agent(state["agent"], self._agent, lambda _: probe, trust=self._trust)()
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            logger.warning("the state of a run does not fit, the run starts again: %s", error)
            return False
        self._observation, self._preparation = state["observation"], state["preparation"]
        self._record()
        self._log.load_state(state["log"])
        if self._best is not None:
            self._best.load_state(state["best"])
        self._before = state["seconds"]
        self._spent = {name: self._before[name] for name in self._spent}
        return True

    def results(self) -> list[Result]:
        """One per run, with its numbers on the test split."""
        vector, info = self._vector, self._info
        settings = vector.settings
        test = vector.evaluate("test")
        seconds = self._seconds()
        full_run = settings.recipe.epochs * settings.num_samples
        visits = info["run_visits"]
        shares = visits + (visits.sum() == 0)  # all are over at once: equal shares
        shares = shares / shares.sum()
        # With the modules that were loaded while the runs played.
        made_by = replace(self._fingerprint, code=self._now().code | self._fingerprint.code)
        results = []
        for row, config in enumerate(self._group.configs()):
            history, selections = self._log.row(row)
            history["seconds"] = [value * float(shares[row]) for value in history["seconds"]]
            results.append(
                Result(
                    config=config,
                    num_samples=settings.num_samples,
                    epochs=settings.recipe.epochs,
                    history=history,
                    test_loss=float(test.loss[row]),
                    test_accuracy=float(test.accuracy[row]),
                    visits=int(info["run_visits"][row]),
                    scored=int(info["scored"][row]),
                    preparation=float(self._preparation[row]),
                    saved=float(info["saved"][row] - self._preparation[row] / full_run),
                    seconds={name: value * float(shares[row]) for name, value in seconds.items()},
                    diverged=bool(info["diverged"][row]),
                    replicas=len(self._group.seeds),
                    device=_device_name(vector.trainer.device),
                    threads=vector.trainer.threads,
                    versions=dict(versions()),
                    selections=selections,
                    commit=commit(),
                    machine=machine(),
                    replica_seeds=list(self._group.seeds),
                    fingerprint=made_by,
                    best_epoch=None if self._best is None else self._best.row(row),
                )
            )
        vector.close()
        return results


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
