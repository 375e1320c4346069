"""How many threads compute: sums are rounded as they are split up, so the number is said."""

from __future__ import annotations

import os
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from threading import Lock
from typing import ClassVar

import torch
from threadpoolctl import LibController, ThreadpoolController

_allowed: ContextVar[int | None] = ContextVar("allowed", default=None)


class torch_threads:  # a class, since every step enters it: a generator takes longer
    """Lets torch's operations on a CPU use so many threads; puts the caller's number back."""

    def __init__(self, number: int):
        self._number = number

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        self._token = _allowed.set(self._before) if _allowed.get() is None else None
        if self._before != self._number:
            torch.set_num_threads(self._number)

    def __exit__(self, *error: object) -> None:
        if self._token is not None:
            _allowed.reset(self._token)
        if torch.get_num_threads() != self._before:
            torch.set_num_threads(self._before)


def allowed_threads() -> int:
    """The number that torch had outside of all `torch_threads`: for work that rounds alike."""
    return _allowed.get() or torch.get_num_threads()


class one_blas_thread:
    """Lets numpy's linear algebra use one thread; the last to leave puts the old number back.

    The number is that of the process: threads of ours that need it at the same time share it.
    """

    def __enter__(self) -> None:
        with _Limit.lock:
            _Limit.holders += 1
            if _Limit.holders == 1:
                _Limit.before = _with_more_threads()
                for library, _ in _Limit.before:
                    _set_threads(library, 1)

    def __exit__(self, *error: object) -> None:
        with _Limit.lock:
            _Limit.holders -= 1
            if _Limit.holders == 0:
                for library, number in _Limit.before:
                    _set_threads(library, number)


class _Limit:
    """Who holds numpy's linear algebra to one thread."""

    lock = Lock()
    holders = 0
    before: ClassVar[list[tuple[LibController, int]]] = []


if hasattr(os, "register_at_fork"):  # another thread may hold it when a process is forked off
    os.register_at_fork(after_in_child=_Limit.lock._at_fork_reinit)  # type: ignore[attr-defined]


def _set_threads(library: LibController, number: int) -> None:
    """From whichever thread: threadpoolctl 3.8 lets one alone set it, and ignores all others."""
    free = getattr(library, "clear_controlling_thread", None)
    if free is not None:
        free(force=True)
    library.set_num_threads(number)
    if free is not None:
        free(force=True)


def _with_more_threads() -> list[tuple[LibController, int]]:
    """Those that use more than one, and how many."""
    found = []
    for library in _libraries():
        number = library.get_num_threads()
        if number != 1:
            found.append((library, number))
    return found


@cache
def _libraries() -> list[LibController]:
    """Those for linear algebra in this process, looked up once.

    Products in compiled loops run in scipy's, which is loaded at the first of them: here before.
    """
    with suppress(ImportError):
        import_module("scipy.linalg.cython_blas")
    found: list[LibController] = ThreadpoolController().select(user_api="blas").lib_controllers
    return found
