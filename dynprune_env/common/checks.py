"""Checks of single values where they come in: Python's own or numpy's, one sentence if wrong."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

MOST_THREADS = 1024
"""Of torch, in settings and in results: far more take all memory, and end the process."""


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """A whole number as Python's; bools are none, nor are floats such as 32.0.

    Args:
        name: what the value is called.
        value: what was given.
        low: the least that is allowed.
        high: the most; None for no limit.

    Raises:
        ValueError: it is no whole number, or out of these limits.
    """
    value = plain(value)
    right = isinstance(value, Integral) and not isinstance(value, bool)
    if not right or value < low or (high is not None and value > high):
        limits = f"of at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} is a whole number {limits}, got {shown(value)}")
    return int(value)


def real(what: str, value: Any, interval: str) -> float:
    """A finite number as Python's float; bools are none.

    Args:
        what: the beginning of the sentence, e.g. "momentum is a number".
        value: what was given.
        interval: where it lies, e.g. "[0, 1)" or "(0, inf)".

    Raises:
        ValueError: it is no finite number, or outside.
    """
    value = plain(value)
    low, high = map(float, interval[1:-1].split(","))
    try:
        right = isinstance(value, Real) and not isinstance(value, bool)
        number = float(value) if right else math.nan
    except OverflowError:  # an integer beyond the floats
        number = math.inf
    inside = low < number < high
    inside |= (number == low and interval[0] == "[") or (number == high and interval[-1] == "]")
    if not (inside and math.isfinite(number)):
        raise ValueError(f"{what} in {interval}, got {shown(value)}")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False as Python's; numbers are none.

    Raises:
        ValueError: it is anything else.
    """
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is True or False, got {shown(value)}")
    return value


def row_seeds(seed: Any, rows: int) -> list[int | None]:
    """One seed for each row: s gives row r the seed s + r, a sequence one each, None none.

    Raises:
        ValueError: they are no whole numbers from 0, or not as many as rows.
    """
    seed = plain(seed)
    if seed is None:
        return [None] * rows
    if isinstance(seed, Real | str) or not hasattr(seed, "__len__"):
        first = whole("seed", seed, 0)
        return [first + row for row in range(rows)]
    if len(seed) != rows:
        raise ValueError(f"expected {rows} seeds, got {len(seed)}")
    return [None if each is None else whole("seed", each, 0) for each in seed]


def agent_seeds(seeds: Any) -> int | tuple[int, ...]:
    """What an agent draws from: one number, or one for each replica, as Python's.

    Raises:
        ValueError: one is no whole number from 0.
    """
    seeds = plain(seeds)
    if isinstance(seeds, Real | str) or not hasattr(seeds, "__iter__"):
        return whole("seed", seeds, 0)
    return tuple(whole("seed", each, 0) for each in seeds)


def run_seeds(seeds: Any) -> tuple[int, ...]:
    """The seeds of runs: at least one, whole numbers from 0, none twice.

    Raises:
        ValueError: they are not.
    """
    if isinstance(seeds, str) or not hasattr(seeds, "__iter__"):
        raise ValueError(f"seeds is a sequence of whole numbers, got {shown(seeds)}")
    checked = tuple(whole("a seed", seed, 0) for seed in seeds)
    if not checked:
        raise ValueError("seeds holds at least one, got none")
    if len(set(checked)) < len(checked):  # would be one run that counts twice
        raise ValueError(f"seeds holds none twice, got {shown(list(checked))}")
    return checked


def plain(value: Any) -> Any:
    """A number, bool or text of numpy as Python's; everything else as it is."""
    alone = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim)
    return value.item() if alone else value


def shown(value: Any) -> str:
    """What was given, on one line that is not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."
