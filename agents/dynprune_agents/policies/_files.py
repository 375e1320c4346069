"""Files of trained policies: where the shipped ones lie, and how a scorer is kept."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from dynprune_agents.policies._archive import Archive, decoded, opened, write_archive
from dynprune_agents.policies._features import CONTEXT_FEATURES, SAMPLE_FEATURES
from dynprune_agents.policies._networks import Scorer
from dynprune_env.common.luggage import stand_in
from dynprune_env.common.sources import hash_file

FOLDER = Path(__file__).parent

MOST_BOUND = 32
"""Of a scorer's spend exponent and log2 of gradient weights."""

Bound = Annotated[float, msgspec.Meta(ge=0, le=MOST_BOUND)]


class ScorerShape(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The attributes of a `Scorer`."""

    width: Annotated[int, msgspec.Meta(ge=1)]
    max_spend: Bound = Scorer.max_spend
    max_weight: Bound = Scorer.max_weight


class ScorerHead(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the head of a scorer's file says."""

    scorer: ScorerShape
    sample_features: list[str]
    run_features: list[str]
    origin: dict[str, Any] = {}


def shipped_policies() -> list[str]:
    """The names of the policies that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def find_policy(policy: str) -> Path:
    """The file of a policy: a path as it is, a name among the shipped ones.

    Raises:
        ValueError: there is none; the message lists the shipped ones.
    """
    names = shipped_policies()
    if policy in names:
        return FOLDER / f"{policy}.npz"
    try:
        if (path := stand_in(policy)).is_file():
            return path
    except (OSError, ValueError):  # no name that a file could have
        pass
    raise ValueError(f"there is no policy file {policy!r}; the shipped ones are {', '.join(names)}")


def named(policy: str | None) -> str | None:
    """The name of a policy's file and its hash, for the origin of what goes on from it."""
    if policy is None:
        return None
    path = find_policy(policy)
    return f"{path.name} {hash_file(path)}"


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
        "run_features": CONTEXT_FEATURES,
        "origin": origin,
    }
    write_archive(path, head, scorer.split(flat))


@lru_cache(maxsize=16)
def _read(path: Path, changed: int) -> tuple[Scorer, np.ndarray]:
    try:
        with opened(path) as archive:
            kinds = decoded(archive.head, dict[str, msgspec.Raw])
            if "sb3" in kinds:
                name = path.stem if path.parent == FOLDER else str(path)
                raise ValueError(f"it is one of Stable-Baselines3: play it as sb3(policy={name!r})")
            return _scorer(decoded(archive.head, ScorerHead), archive)
    except ValueError as error:
        raise ValueError(
            f"{path} is not a policy that `dynprune train` wrote: {error!s:.1000}"
        ) from error


def _scorer(head: ScorerHead, archive: Archive) -> tuple[Scorer, np.ndarray]:
    """The network and its parameters, once the head and the arrays' shapes fit one another."""
    scorer = Scorer(head.scorer.width, head.scorer.max_spend, head.scorer.max_weight)
    places = {
        "A": _places(head.sample_features, SAMPLE_FEATURES),
        "B": (of_run := _places(head.run_features, CONTEXT_FEATURES)),
        "outer": of_run,
    }
    shapes = {
        name: (len(places[name]), *shape[1:]) if name in places else shape
        for name, shape in scorer.shapes.items()
    }
    archive.check_shapes(shapes)
    flat = np.zeros(scorer.num_parameters, dtype=np.float32)
    for name, part in scorer.split(flat).items():
        part[places.get(name, slice(None))] = archive.array(name)
    return scorer, flat


def _places(names: list[str], known: tuple[str, ...]) -> list[int]:
    """Where features are now; what came after a policy was trained weighs nothing in it."""
    lost = sorted(set(names) - set(known))
    if lost:
        raise ValueError(f"it was trained on features that are no more: {', '.join(lost)}")
    if len(set(names)) < len(names):
        raise ValueError("it names a feature twice")
    return [known.index(name) for name in names]


def load_scorer(policy: str) -> tuple[Scorer, np.ndarray]:
    """The network of a policy and its parameters, (P,) float32.

    Args:
        policy: a shipped policy's name or a path.

    Raises:
        ValueError: there is no such policy, or the file is something else.
    """
    path = find_policy(policy)
    return _read(path, path.stat().st_mtime_ns)
