"""Compiling loops with numba, where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

HAS_NUMBA = find_spec("numba") is not None
"""Whether loops can be compiled; finding out does not import it, which takes long."""

LARGE = 100_000
"""Samples from which the passes over memory count, and no longer the calls."""


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles at the first call; keeps the machine code on disk where that can be written.

    The compiled function holds no interpreter lock.
    """
    from numba import njit

    try:
        compiled: Callable[..., Any] = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # "no locator available": neither the package nor the home can be written
        compiled = njit(nogil=True)(function)
    return compiled
