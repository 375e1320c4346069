"""Files of trained policies: where the shipped ones lie, and how a scorer is kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dynprune_agents.policies._features import RUN_FEATURES, SAMPLE_FEATURES
from dynprune_agents.policies._networks import Scorer
from dynprune_env.common.files import atomic_write
from dynprune_env.common.luggage import stand_in

FOLDER = Path(__file__).parent


def find_policy(policy: str, suffix: str) -> Path:
    """The file of a policy: a path as it is, a name among the shipped ones.

    Raises:
        ValueError: there is none; the message lists the shipped ones.
    """
    shipped = FOLDER / f"{policy}{suffix}"
    if shipped.is_file():
        return shipped
    if (path := stand_in(policy)).is_file():
        return path
    names = ", ".join(sorted(path.stem for path in FOLDER.glob(f"*{suffix}")))
    raise ValueError(f"there is no policy file {policy!r}; the shipped ones are {names or 'none'}")


def save_scorer(path: Path, scorer: Scorer, flat: np.ndarray, origin: dict[str, Any]) -> None:
    """Writes a scorer as an .npz of plain arrays, whatever the path's ending.

    Args:
        path: where to.
        scorer: the network's shape.
        flat: (P,) float32.
        origin: how it was made; numbers, strings, lists and dicts.
    """
    head = {
        "scorer": asdict(scorer),
        "sample_features": SAMPLE_FEATURES,
        "run_features": RUN_FEATURES,
        "origin": origin,
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {"head": json.dumps(head), **scorer.split(flat)}
        np.savez_compressed(file, **arrays)


@lru_cache(maxsize=16)
def _read(path: Path, changed: int) -> tuple[Scorer, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            scorer = Scorer(**head["scorer"])
            flat = np.zeros(scorer.num_parameters, dtype=np.float32)
            places = {
                "A": _places(head["sample_features"], SAMPLE_FEATURES),
                "B": (of_run := _places(head["run_features"], RUN_FEATURES)),
                "outer": of_run,
            }
            for name, part in scorer.split(flat).items():
                part[places.get(name, slice(None))] = file[name]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a policy that `dynprune train` wrote: {error}") from error
    return scorer, flat


def _places(names: list[str], known: tuple[str, ...]) -> list[int]:
    """Where features are now; what came after a policy was trained weighs nothing in it."""
    lost = sorted(set(names) - set(known))
    if lost:
        raise ValueError(f"it was trained on features that are no more: {', '.join(lost)}")
    return [known.index(name) for name in names]


def load_scorer(policy: str) -> tuple[Scorer, np.ndarray]:
    """The network of a policy and its parameters, (P,) float32.

    Args:
        policy: a shipped policy's name or a path.

    Raises:
        ValueError: there is no such policy, or the file is something else.
    """
    path = find_policy(policy, ".npz")
    return _read(path, path.stat().st_mtime_ns)
