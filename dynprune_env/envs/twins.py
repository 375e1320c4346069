"""Twins: rows in groups that share everything but their actions, and end together."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynprune_env.common.checks import plain, row_seeds, whole


def check_twins(num_envs: int, twins: Any) -> int:
    """The size of a group, as Python's number.

    Raises:
        ValueError: it is no whole number of at least 1 that divides the number of rows.
    """
    twins = whole("twins", twins, 1)
    if num_envs % twins:
        raise ValueError(
            f"num_envs is a multiple of twins, the rows that share a run seed, "
            f"got num_envs={num_envs} and twins={twins}; gym.make, and gym.make_vec with a "
            "vectorization_mode, make environments of one row each"
        )
    return twins


def twin_seeds(seed: Any, num_envs: int, twins: int) -> list[int | None]:
    """One seed for each row, the same for twins.

    Args:
        seed: s gives group g the seed s + g; or one per row, or one per group; None none.
        num_envs: R.
        twins: the size of a group.

    Raises:
        ValueError: they are no whole numbers from 0, not as many as rows or groups, or not the
            same for twins.
    """
    groups, seed = num_envs // twins, plain(seed)
    count = np.size(seed) if hasattr(seed, "__len__") and not isinstance(seed, str) else None
    if twins > 1 and count not in (None, groups, num_envs):
        raise ValueError(
            f"expected {num_envs} seeds, one per row, or {groups}, one per group of {twins} twins, "
            f"got {count}"
        )
    if count == num_envs:
        seeds = row_seeds(seed, num_envs)
        for first in range(0, num_envs, twins):
            own = seeds[first : first + twins]
            if any(each != own[0] for each in own):
                raise ValueError(f"twins share a seed, got {own} for rows {first} and following")
        return seeds
    return [each for each in row_seeds(seed, groups) for _ in range(twins)]


def all_of_group(flags: np.ndarray, twins: int) -> np.ndarray:
    """Where it holds for a row and all of its twins, (R,) bool."""
    if twins == 1:
        return flags.copy()
    return flags.reshape(-1, twins).all(1).repeat(twins)


def check_whole_groups(mask: np.ndarray, twins: int) -> None:
    """Checks that rows are named together with their twins.

    Raises:
        ValueError: one is, another of its group is not.
    """
    if (mask != all_of_group(mask, twins)).any():
        raise ValueError(
            f"twins are reset together: reset_mask names all {twins} rows of a group or none, "
            f"got {mask.tolist()}"
        )
