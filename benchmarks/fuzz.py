"""Broken files of every kind: each is refused by a ValueError, or loads and is finite.

python -m benchmarks.fuzz --mutations 10000 --seed 0

Anything else is a fault: it is printed with what makes it again, and the exit code is 1.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
import typer

import dynprune_agents
from benchmarks import mutations as how
from dynprune_agents.policies._files import FOLDER, load_scorer
from dynprune_agents.policies._sb3_arrays import read_arrays, write_arrays
from dynprune_env import run_episodes
from dynprune_env.benchmark.results import Result
from dynprune_env.benchmark.sweeps import load_sweep
from dynprune_env.sampler.sampler import PruningSampler

SMALL: dict[str, Any] = {"train_size": 48, "epochs": 3}
SWEEP = b"""description = "Mine."
envs = ["DynPrune-Digits-v0"]
agents = ["ucb", "ucb(c=2.0)"]
budgets = [0.6, 1]
seeds = 3
seed = 5
scaled_model = "mlp"
variants = [{}, { label_noise = 0.2 }]
[env_kwargs]
epochs = 4
"""


class UnreadableError(ValueError):
    """torch itself refuses the file, whose reading is the caller's."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: what it is.
        suffix: of its files.
        content: a good one.
        read: reads one; gives what has to be finite.
        mutations: ways to break it, each as likely.
        stem: the name of its files, without suffix: a result knows its own.
    """

    name: str
    suffix: str
    content: bytes
    read: Callable[[Path], Any]
    mutations: tuple[how.Mutation, ...]
    stem: str = "good"


@dataclass(frozen=True)
class Fault:
    """A broken file that was neither refused nor loaded as something finite."""

    kind: str
    number: int
    what: str


def kinds(folder: Path) -> Iterator[Kind]:
    """All of them, made in a folder of one's own."""
    archive = (how.some_bytes, how.some_member, how.some_head, how.some_array)
    result = _result(folder)
    broken = (how.some_bytes, how.some_json)
    yield Kind("result", ".json", result.read_bytes(), _read_result, broken, result.stem)
    scorer = (FOLDER / "weighted.npz").read_bytes()
    yield Kind("scorer policy", ".npz", scorer, lambda path: load_scorer(str(path))[1], archive)
    shipped = (FOLDER / "ppo.npz").read_bytes()
    yield Kind("SB3 policy", ".npz", shipped, _read_sb3, archive)
    yield Kind("SB3 set policy", ".npz", _set_policy(folder), _read_sb3, archive)
    yield Kind(
        "sweep",
        ".toml",
        SWEEP,
        lambda path: list(asdict(load_sweep(str(path))).values()),
        (how.some_bytes, how.some_line, how.some_line),
    )
    state = (how.some_bytes, how.some_member, how.some_state, how.some_state)
    yield Kind("sampler state", ".pt", _sampler_state(folder), _read_sampler, state)
    yield Kind("run state", ".pt", _run_state(folder), _read_run, state)


def fuzz(
    kind: Kind, mutations: int, seed: int, folder: Path, keep: bool = False
) -> tuple[Counter[str], list[Fault]]:
    """Breaks a file so many times.

    Args:
        kind: the kind of file.
        mutations: how many.
        seed: draws them.
        folder: where the files lie while they are read.
        keep: whether those of faults stay there.

    Returns:
        How many were refused, how many loaded, and the faults.

    Raises:
        RuntimeError: the good file does not load.
    """
    counts: Counter[str] = Counter()
    faults = []
    (good := folder / f"{kind.stem}{kind.suffix}").write_bytes(kind.content)
    if (outcome := _outcome(kind, good)) != "loaded":
        raise RuntimeError(f"the good file of the kind {kind.name} does not load: {outcome}")
    for number in range(mutations):
        # Names differ, since readers know a file by its name and time.
        path = folder / f"{kind.name.replace(' ', '_')}_{number}" / f"{kind.stem}{kind.suffix}"
        path.parent.mkdir()
        path.write_bytes(broken(kind, number, seed))
        outcome = _outcome(kind, path)
        if outcome in ("refused", "loaded") or not keep:
            shutil.rmtree(path.parent)
        counts[outcome if outcome in ("refused", "loaded") else "faults"] += 1
        if outcome not in ("refused", "loaded"):
            faults.append(Fault(kind.name, number, outcome))
    return counts, faults


def broken(kind: Kind, number: int, seed: int) -> bytes:
    """The broken file of that number."""
    rng = np.random.default_rng([seed, number])
    return kind.mutations[rng.integers(len(kind.mutations))](kind.content, rng)


def _outcome(kind: Kind, path: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kind.read(path)
    except ValueError as error:
        return "refused" if str(error) else "a ValueError that says nothing"
    except (Exception, SystemError) as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    return "loaded" if finite(found) else "loaded, but it is not finite"


def finite(value: Any) -> bool:
    """Whether all numbers in it are: of dicts, lists, tuples, arrays and tensors."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, np.ndarray):
        return bool(np.isfinite(value).all()) if value.dtype.kind == "f" else True
    return not isinstance(value, float) or math.isfinite(value)


# -- the kinds: a good file of each, and its reader ----------------------------------------------


def _result(folder: Path) -> Path:
    agent = dynprune_agents.make("ucb")
    (result,) = run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=SMALL, device="cpu")
    return result.save(folder)


def _read_result(path: Path) -> Any:
    return asdict(Result.load(path))


def _set_policy(folder: Path) -> bytes:
    from gymnasium.vector import AutoresetMode
    from stable_baselines3 import PPO

    from dynprune_agents.learning.mixture import TaskDraw
    from dynprune_agents.learning.set_policy import SetPolicy
    from dynprune_agents.learning.vec_env import DynPruneVecEnv

    kwargs = {**SMALL, "device": "cpu"}
    envs = DynPruneVecEnv(TaskDraw("DynPrune-Digits-v0", kwargs).make(1, AutoresetMode.SAME_STEP))
    path = folder / "set_policy.npz"
    write_arrays(path, PPO(SetPolicy, envs, seed=0, device="cpu"), {"seed": 0})
    return path.read_bytes()


def _read_sb3(path: Path) -> Any:
    return dict(read_arrays(path).state_dict())


def _sampler() -> PruningSampler:
    labels = np.arange(48) % 3
    return PruningSampler(labels, dynprune_agents.make("ucb"), epochs=4, budget=0.5)


def _sampler_state(folder: Path) -> bytes:
    sampler = _sampler()
    for part in (slice(None), slice(5)):  # an epoch, then a part of the next
        ids = list(sampler)[part]
        sampler.record(ids, torch.ones(len(ids), 3))
        if part.stop is None:
            sampler.select()
    torch.save(sampler.state_dict(), folder / "sampler.pt")
    return (folder / "sampler.pt").read_bytes()


def _read_sampler(path: Path) -> Any:
    sampler = _sampler()
    sampler.load_state_dict(_torch_load(path))
    # What an agent remembers may be infinite, e.g. the bound of an arm that was never tried.
    return {name: value for name, value in sampler.state_dict().items() if name != "agent"}


def _run() -> Any:
    return gym.make_vec("dynprune_env:DynPrune-Digits-v0", 2, **SMALL, device="cpu").unwrapped


def _run_state(folder: Path) -> bytes:
    run = _run()
    run.reset(seed=0)
    run.step(np.ones((2, 48), dtype=bool))
    run.save(folder / "run.pt")
    return (folder / "run.pt").read_bytes()


def _read_run(path: Path) -> Any:
    run = _run()
    run.load(path)
    return run.get_state()


def _torch_load(path: Path) -> Any:
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        raise UnreadableError(f"torch cannot read it: {error}") from error


def main(
    mutations: Annotated[int, typer.Option("--mutations", min=1, help="Of each kind.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws them.")] = 0,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Folder for the files of faults. [none kept]")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--kind", help="Repeatable. [all]")] = None,
) -> None:
    """Breaks files of every kind, and prints a line for each kind and for each fault."""
    torch.set_num_threads(1)
    found = 0
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    print(f"{'kind':16}{'files':>8}{'refused':>9}{'loaded':>8}{'faults':>8}")
    with tempfile.TemporaryDirectory() as name:
        for kind in kinds(Path(name)):
            if only and kind.name not in only:
                continue
            counts, faults = fuzz(kind, mutations, seed, keep or Path(name), keep is not None)
            columns = (counts["refused"], counts["loaded"], len(faults))
            print(f"{kind.name:16}{mutations:8,}{columns[0]:9,}{columns[1]:8,}{columns[2]:8,}")
            for fault in faults:
                print(f"  --seed {seed}, number {fault.number}: {fault.what}")
            found += len(faults)
    raise typer.Exit(1 if found else 0)


if __name__ == "__main__":
    typer.run(main)
