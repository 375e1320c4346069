"""Playing episodes and keeping what happened: one run, many seeds side by side, a whole sweep."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from dynprune_env.kept_when import RunLog
from dynprune_env.learners import StackedLearner
from dynprune_env.models import is_mlp
from dynprune_env.registration import import_all
from dynprune_env.results import Result, RunConfig
from dynprune_env.settings import SelectionAgent, Settings
from dynprune_env.specs import checked_arguments
from dynprune_env.vector_env import DynPruneVectorEnv

LIBRARIES = ("dynprune", "torch", "numpy", "gymnasium", "stable-baselines3")


@dataclass(frozen=True)
class Cell:
    """Runs that are played together, on one replica axis: the same but for the seed."""

    env: str
    env_kwargs: dict[str, Any]
    agent: str
    seeds: tuple[int, ...]

    def configs(self) -> list[RunConfig]:
        """One configuration per seed."""
        return [RunConfig(self.env, self.env_kwargs, self.agent, seed) for seed in self.seeds]


def run_episodes(
    env: str,
    agent: SelectionAgent,
    seeds: Sequence[int],
    *,
    env_kwargs: dict[str, Any] | None = None,
    device: str = "auto",
    data_dir: str | None = None,
    on_epoch: Callable[[np.ndarray], None] | None = None,
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

    Returns:
        One result per seed.
    """
    env_kwargs = {"budget": Settings.budget, **(env_kwargs or {})}
    vector = gym.make_vec(
        env,
        num_envs=len(seeds),
        autoreset_mode=AutoresetMode.DISABLED,
        device=device,
        data_dir=data_dir,
        **(dict(agent.env_kwargs) | env_kwargs),
    )
    assert isinstance(vector, DynPruneVectorEnv)
    start = time.perf_counter()
    observation, info = vector.reset(seed=list(seeds))
    prepared = time.perf_counter()
    rehearsal = vector.rehearsal(seeds)
    agent.prepare(rehearsal)
    preparing = time.perf_counter() - prepared

    log = RunLog(vector)
    selecting = 0.0
    agent.reset(vector.episode(seeds))
    terminated = np.zeros(len(seeds), dtype=bool)
    while not terminated.all():
        began = time.perf_counter()
        action = agent.select(observation)
        selecting += time.perf_counter() - began
        next_observation, reward, terminated, _, info = vector.step(action)
        stepped, began = time.perf_counter() - began, time.perf_counter()
        agent.update(observation, action, reward, next_observation)
        selecting += time.perf_counter() - began
        log.add(info, reward, stepped)
        observation = next_observation
        if on_epoch is not None:
            on_epoch(info["progress"])

    test = vector.evaluate("test")
    seconds = {
        **vector.trainer.seconds,
        "prepare": preparing,
        "select": selecting,
        "total": time.perf_counter() - start,
    }
    results = []
    full_run = vector.settings.recipe.epochs * vector.settings.num_samples
    shares = info["visits"] / max(1, info["visits"].sum())
    for row, config in enumerate(Cell(env, env_kwargs, repr(agent), tuple(seeds)).configs()):
        history, selections = log.row(row)
        history["seconds"] = [value * float(shares[row]) for value in history["seconds"]]
        results.append(
            Result(
                config=config,
                num_samples=vector.settings.num_samples,
                epochs=vector.settings.recipe.epochs,
                history=history,
                test_loss=float(test.loss[row]),
                test_accuracy=float(test.accuracy[row]),
                visits=int(info["visits"][row]),
                scored=int(info["scored"][row]),
                preparation=float(rehearsal.visits[row]),
                saved=float(info["saved"][row] - rehearsal.visits[row] / full_run),
                seconds={name: value * float(shares[row]) for name, value in seconds.items()},
                diverged=bool(info["diverged"][row]),
                replicas=len(seeds),
                device=_device_name(vector.trainer.device),
                threads=1
                if isinstance(vector.trainer.learner, StackedLearner)
                else torch.get_num_threads(),
                versions=dict(_versions()),
                selections=selections,
            )
        )
    vector.close()
    return results


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def plan_cells(
    env: str,
    agents: Sequence[str],
    budgets: Sequence[float],
    seeds: Sequence[int],
    env_kwargs: dict[str, Any],
) -> list[Cell]:
    """Every agent at every budget, and full data at budget 1 as the reference.

    Seeds of small nets ride together on the replica axis; other runs are cells of their own, so
    that several processes can share them.

    Raises:
        ValueError: an argument of the environment is not valid.
    """
    spec = gym.spec(env)
    if spec.vector_entry_point != "dynprune_env.vector_env:DynPruneVectorEnv":
        raise ValueError(f"{env} is not an environment of dynprune_env")
    kwargs = checked_arguments(Settings, {**spec.kwargs, **env_kwargs}, env)
    for budget in budgets:
        Settings(**kwargs | {"budget": budget})
    settings = Settings(**kwargs)
    together = is_mlp(settings.resolved.model)
    groups = [tuple(seeds)] if together else [(seed,) for seed in seeds]
    pairs = [(agent, float(budget)) for budget in sorted(budgets) for agent in agents]
    pairs += [] if ("full_data", 1.0) in pairs else [("full_data", 1.0)]
    return [
        Cell(env, {**env_kwargs, "budget": budget}, agent, group)
        for agent, budget in pairs
        for group in groups
    ]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: how many runs, and the error's text if it failed."""

    cell: Cell
    runs: int
    error: str | None = None


def run_sweep(
    cells: Sequence[Cell],
    make_agent: Callable[[str], SelectionAgent],
    folder: Path,
    *,
    jobs: int = 1,
    device: str = "auto",
    data_dir: str | None = None,
    imports: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Plays cells in parallel processes; each finished run is saved at once, and never repeated.

    Args:
        cells: what to run; runs whose result lies in `folder` already are skipped.
        make_agent: makes an agent from its spec, in the worker.
        folder: takes one JSON file per run.
        jobs: worker processes; 1 runs everything in this one.
        device: where to train.
        data_dir: folder of the data sets.
        imports: modules that every worker imports, since they register tasks.

    Yields:
        What became of each cell, as soon as it is known. A failed one does not stop the others.
    """
    from joblib import Parallel, delayed, parallel_config

    folder.mkdir(parents=True, exist_ok=True)
    arguments = (make_agent, folder, device, data_dir, imports)
    if jobs == 1:
        yield from (_run_cell(cell, *arguments) for cell in cells)
        return
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
        yield from parallel(delayed(_run_cell)(cell, *arguments) for cell in cells)


def _run_cell(
    cell: Cell,
    make_agent: Callable[[str], SelectionAgent],
    folder: Path,
    device: str,
    data_dir: str | None,
    imports: Sequence[str],
) -> Outcome:
    missing = [c.seed for c in cell.configs() if not (folder / f"{c.key}.json").exists()]
    try:
        if missing:
            import_all(imports)
            results = run_episodes(
                cell.env,
                make_agent(cell.agent),
                missing,
                env_kwargs=cell.env_kwargs,
                device=device,
                data_dir=data_dir,
            )
            for result in results:
                result.save(folder)
    except Exception as error:  # one broken agent must not lose the other runs
        return Outcome(cell, len(cell.seeds), f"{type(error).__name__}: {error}")
    return Outcome(cell, len(cell.seeds))
