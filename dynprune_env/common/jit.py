"""Compiling loops with numba, where it is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from inspect import getclosurevars
from pathlib import Path
from types import ModuleType
from typing import Any

HAS_NUMBA = find_spec("numba") is not None
"""Whether loops can be compiled; finding out does not import it, which takes long."""

LARGE = 100_000
"""Samples from which the passes over memory count, and no longer the calls."""

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
"""Divisions by zero are infinite: looking for them would keep loops from being vectorised."""


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles at the first call; keeps the machine code on disk where that can be written.

    What is on disk is taken again only if neither the function's file has changed nor what it
    takes from others: functions compiled by this one, and constants. The compiled function holds
    no interpreter lock.
    """
    from numba import njit

    try:
        compiled: Callable[..., Any] = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # "no locator available": neither the package nor the home can be written
        return _known(njit(**_OPTIONS)(function), function)
    # Numba stamps what it keeps with the function's own file alone.
    kept: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if not hasattr(kept, "_source_stamp"):  # another numba than the ones that were tried
        return _known(njit(**_OPTIONS)(function), function)
    _known(compiled, function)
    kept._source_stamp = kept._source_stamp, _stamps[compiled]
    return compiled


_stamps: dict[Any, str] = {}
"""Of each compiled function a hash of all that it was made from."""


def _known(compiled: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    own = Path(function.__code__.co_filename).read_bytes()
    parts = [
        repr(_OPTIONS),
        hashlib.sha256(own).hexdigest(),
        *(_stamp(value) for value in _taken(function)),
    ]
    _stamps[compiled] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return compiled


def _taken(function: Callable[..., Any]) -> Iterator[Any]:
    """What a function's names mean: globals, what it closes over, and modules' members."""
    outside = getclosurevars(function)
    names = function.__code__.co_names
    for _, value in sorted({**outside.globals, **outside.nonlocals}.items()):
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[name] for name in names if name in vars(value))


def _stamp(value: Any) -> str:
    """The same in every process, and another for another value."""
    try:
        if value in _stamps:
            return _stamps[value]
    except TypeError:  # arrays and lists have no hash
        pass
    if isinstance(value, ModuleType):
        return value.__name__
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    return f"{type(value).__name__} {value.tolist() if hasattr(value, 'tolist') else value!r}"
