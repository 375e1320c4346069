"""Running means and variances that VecNormalize of Stable-Baselines3 has saved: pickles."""

from __future__ import annotations

import pickle
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes a second to import, and listing the agents needs none of it
    from stable_baselines3.common.vec_env import VecNormalize

NAME = "vecnormalize.pkl"
"""What rl-zoo3 calls them."""


def statistics_beside(policy: Path) -> Path | None:
    """The file of statistics beside a model, or where rl-zoo3 puts it, one folder deeper."""
    places = (policy.parent / NAME, *sorted(policy.parent.glob(f"*/{NAME}")))
    return next((place for place in places if place.is_file()), None)


def statistics(path: Path, trust: bool) -> VecNormalize:
    """What `VecNormalize.save` wrote; it only normalises.

    Args:
        path: the file.
        trust: whether it may be unpickled, which runs whatever its maker put into it.

    Raises:
        ValueError: there is no such file, it is not trusted, or something else.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r} of statistics")
    if not trust:
        raise ValueError(
            f"{path} is a pickle, and reading it runs what is in it: if you trust whoever made it, "
            "say sb3(policy=..., vecnormalize=..., trust=True)"
        )
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _read(path: Path, changed: int) -> VecNormalize:
    """Reads a file once; `changed` is when it was written (ns), since a newer one is another."""
    from stable_baselines3.common.vec_env import VecNormalize

    try:
        found = pickle.loads(path.read_bytes())
    except Exception as error:  # unpickling runs what the file says, and that may raise anything
        raise ValueError(f"{path} is not what VecNormalize saved: {error!r}") from error
    if not isinstance(found, VecNormalize):
        raise ValueError(f"{path} is not what VecNormalize saved, but {type(found).__name__}")
    found.training = False
    return found
