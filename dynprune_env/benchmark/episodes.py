"""Playing episodes and keeping what happened: many seeds side by side, from where they stood."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from dynprune_env.benchmark.checkpoints import Checkpoint
from dynprune_env.benchmark.recording import RunLog
from dynprune_env.benchmark.results import Result, RunConfig
from dynprune_env.common.provenance import code_hash, commit, machine, source_hash, versions
from dynprune_env.envs.settings import Settings
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.agent import SelectionAgent
from dynprune_env.selection.agent_state import pack_agent, unpack_agent
from dynprune_env.tasks.registry import own_factory
from dynprune_env.training.stacked_learner import StackedLearner

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunGroup:
    """Runs that are played together, on one replica axis: the same but for the seed.

    `agent` is the spec as the agent itself spells it, its repr.
    """

    env: str
    env_kwargs: dict[str, Any]
    agent: str
    seeds: tuple[int, ...]

    def configs(self) -> list[RunConfig]:
        """One configuration per seed."""
        return [RunConfig(self.env, self.env_kwargs, self.agent, seed) for seed in self.seeds]

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
    on_epoch: Callable[[np.ndarray], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Result]:
    """Plays one episode per seed, side by side, and evaluates each on the test split, once.

    Args:
        env: Gymnasium id, e.g. "DynPrune-Digits-v0".
        agent: chooses the actions; its repr is its label in the results.
        seeds: one run each; a run's numbers depend on its own seed, not on the company.
        env_kwargs: keyword arguments of the environment.
        device: where to train; not part of a run's configuration.
        data_dir: folder of the data sets, likewise.
        on_epoch: called after each epoch with the (R,) progress, in [0, 1].
        checkpoint: saves the runs between epochs; where it holds a state of runs of all these
            seeds (and perhaps of more), they go on from there.

    Returns:
        One result per seed, or per seed of the state that was gone on from.

    Raises:
        Stopped: the checkpoint said so, and has saved the runs.
    """
    state = checkpoint.load() if checkpoint else None
    if state and set(seeds) <= set(state["seeds"]) and state["origin"] == _origin(env, agent):
        if "results" in state:
            return list(state["results"])
        seeds = state["seeds"]
    else:
        state = None
    trust = checkpoint is not None and checkpoint.trust
    game = _EpisodeRunner(env, agent, seeds, env_kwargs or {}, device, data_dir, trust)
    if state is None or not game.go_on(state):
        game.begin()
    while not game.over:
        progress = game.step()
        if on_epoch is not None:
            on_epoch(progress)
        if checkpoint and not game.over:
            checkpoint.pause(game.state)
    results = game.results()
    if checkpoint and len(results) > 1:
        # Were a few of their files lost, the rest would be played in another company.
        ended = {"seeds": list(seeds), "origin": _origin(env, agent), "results": results}
        checkpoint.save(lambda: ended)
    return results


def _origin(env: str, agent: SelectionAgent) -> dict[str, str | None]:
    """A state belongs to the code that made it; that of an agent may change between two tries."""
    made_by = own_factory(gym.spec(env).kwargs.get("task", ""))
    return {
        **versions(),
        "package": source_hash(),
        "agent": code_hash(type(agent)),
        "task": code_hash(made_by) if made_by else None,
    }


class _EpisodeRunner:
    """Runs under way, side by side: what `run_episodes` steps and a checkpoint keeps."""

    def __init__(
        self,
        env: str,
        agent: SelectionAgent,
        seeds: Sequence[int],
        env_kwargs: dict[str, Any],
        device: str,
        data_dir: str | None,
        trust: bool,
    ):
        env_kwargs = {"budget": Settings.budget, **env_kwargs}
        self._group = RunGroup(env, env_kwargs, repr(agent), tuple(seeds))
        vector = gym.make_vec(
            env,
            num_envs=len(seeds),
            autoreset_mode=AutoresetMode.DISABLED,
            device=device,
            data_dir=data_dir,
            **(dict(agent.env_kwargs) | env_kwargs),
        )
        assert isinstance(vector, DynPruneVectorEnv)
        self._vector, self._agent, self._trust = vector, agent, trust
        self._start = time.perf_counter()
        self._before = {"total": 0.0, "train": 0.0, "evaluate": 0.0}
        self._spent = {"prepare": 0.0, "select": 0.0}
        self.over = False

    def begin(self) -> None:
        """Starts the runs, after what the agent prepares."""
        seeds = self._group.seeds
        self._observation, _ = self._vector.reset(seed=list(seeds))
        start = time.perf_counter()
        runs = self._vector.scoring_runs(seeds)
        self._agent.prepare(runs)
        self._spent["prepare"] = time.perf_counter() - start
        self._preparation = runs.visits
        self._log = RunLog(self._vector)
        self._agent.reset(self._vector.episode(seeds))

    def step(self) -> np.ndarray:
        """Plays one epoch; returns the (R,) progress, in [0, 1]."""
        began = time.perf_counter()
        action = self._agent.select(self._observation)
        self._spent["select"] += time.perf_counter() - began
        observation, reward, terminated, _, self._info = self._vector.step(action)
        stepped, began = time.perf_counter() - began, time.perf_counter()
        self._agent.update(self._observation, action, reward, observation)
        self._spent["select"] += time.perf_counter() - began
        self._log.add(self._info, reward, stepped)
        self._observation, self.over = observation, bool(terminated.all())
        progress: np.ndarray = self._info["progress"]
        return progress

    def _seconds(self) -> dict[str, float]:
        """Seconds so far, those before an interruption included."""
        now = {**self._vector.trainer.seconds, "total": time.perf_counter() - self._start}
        return self._spent | {name: self._before[name] + value for name, value in now.items()}

    def state(self) -> dict[str, Any]:
        """All that the next epochs depend on, to be saved before they begin."""
        return {
            "seeds": list(self._group.seeds),
            "origin": _origin(self._group.env, self._agent),
            "game": self._vector.get_state(),
            "agent": pack_agent(self._agent, pickled=self._trust),
            "observation": self._observation,
            "log": self._log.state(),
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
        self._log = RunLog(self._vector)
        self._log.load_state(state["log"])
        self._before = state["seconds"]
        self._spent = {name: self._before[name] for name in self._spent}
        return True

    def results(self) -> list[Result]:
        """One per run, with its numbers on the test split."""
        vector, info = self._vector, self._info
        settings, learner = vector.settings, vector.trainer.learner
        test = vector.evaluate("test")
        seconds = self._seconds()
        full_run = settings.recipe.epochs * settings.num_samples
        shares = info["visits"] / max(1, info["visits"].sum())
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
                    visits=int(info["visits"][row]),
                    scored=int(info["scored"][row]),
                    preparation=float(self._preparation[row]),
                    saved=float(info["saved"][row] - self._preparation[row] / full_run),
                    seconds={name: value * float(shares[row]) for name, value in seconds.items()},
                    diverged=bool(info["diverged"][row]),
                    replicas=len(self._group.seeds),
                    device=_device_name(vector.trainer.device),
                    threads=learner.threads
                    if isinstance(learner, StackedLearner)
                    else torch.get_num_threads(),
                    versions=dict(versions()),
                    selections=selections,
                    commit=commit(),
                    machine=machine(),
                    replica_seeds=list(self._group.seeds),
                )
            )
        vector.close()
        return results


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
