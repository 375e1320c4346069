"""The fingerprint of runs that would be played now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.common.sources import hash_file, own_sources, package_hash
from dynprune_env.common.tf32 import where_tf32
from dynprune_env.envs.settings import Settings
from dynprune_env.selection.rewards import own_reward
from dynprune_env.tasks.datasets import DataNotFoundError
from dynprune_env.tasks.losses import own_loss
from dynprune_env.tasks.registry import own_factory
from dynprune_env.tasks.schedules import own_schedule
from dynprune_env.tasks.variants import load_dataset


def fingerprint(
    settings: Settings, agents: Sequence[Any] = (), imports: Iterable[str] = ()
) -> Fingerprint:
    """The fingerprint of runs that would be played now.

    Args:
        settings: of the environment.
        agents: who plays.
        imports: modules that were imported because they register tasks.
    """
    task = settings.resolved
    device = settings.find_device()
    inside = [each for agent in agents for each in with_parts(agent)]
    things: list[Any] = [*(type(agent) for agent in inside), *code_behind(settings)]
    try:
        data = load_dataset(
            task.info, task.variant, settings.data_dir, settings.download, device
        ).content_hash
    except DataNotFoundError:  # on a cluster it may lie with the workers only
        data = ""
    return Fingerprint(
        package=package_hash(),
        code=own_sources(things, imports),
        policy={path.name: hash_file(path) for agent in inside for path in files_of(agent)},
        data=data,
        engine={
            "device": device.type,
            "precision": "bf16" if settings.use_bf16(device) else "float32",
            "threads": str(settings.most_threads),
            "numba": "yes" if HAS_NUMBA else "no",
            **(_cuda_switches(settings) if device.type == "cuda" else {}),
        },
    )


def code_behind(settings: Settings) -> Iterator[Any]:
    """What is one's own behind an environment: functions of its task, model, recipe and reward."""
    yield from filter(callable, (own_factory(settings.task), settings.resolved.model))
    if ":" in settings.reward:
        yield own_reward(settings.reward)
    if ":" in settings.recipe.schedule:
        yield own_schedule(settings.recipe.schedule)
    if ":" in settings.recipe.loss:
        yield own_loss(settings.recipe.loss)


def _cuda_switches(settings: Settings) -> dict[str, str]:
    """What decides how CUDA rounds: where it takes TF32, and whether cuDNN repeats itself."""
    cudnn = torch.backends.cudnn
    repeats = settings.deterministic or (cudnn.deterministic and not cudnn.benchmark)
    return {
        "tf32": ", ".join(where_tf32()) or "nowhere",
        "deterministic": "yes" if repeats else "no",
    }


def with_parts(agent: Any) -> list[Any]:
    """An agent and those that it holds."""
    parts = agent.parts() if hasattr(agent, "parts") else []
    return [agent, *(each for part in parts for each in with_parts(part))]


def files_of(agent: Any) -> list[Path]:
    """The files that an agent names, without those of its parts."""
    return list(agent.files()) if hasattr(agent, "files") else []
