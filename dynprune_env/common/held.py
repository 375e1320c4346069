"""A setting of the process that several threads of ours want at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")

_lock = Lock()

if hasattr(os, "register_at_fork"):  # another thread may hold it when a process is forked off
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


class Held(Generic[T]):
    """The first to want it changes the setting; the last to leave puts back what was before.

    Args:
        read: gives the setting.
        write: changes it; only called with another value than it has.
        wanted: what it is to be while anybody holds it.
    """

    def __init__(self, read: Callable[[], T], write: Callable[[T], object], wanted: T):
        self._read, self._write, self._wanted = read, write, wanted
        self._holders = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the setting is the wanted one, for the whole process."""
        with _lock:
            if self._holders == 0:
                self._before = self._read()
                if self._before != self._wanted:
                    self._write(self._wanted)
            self._holders += 1
        try:
            yield
        finally:
            with _lock:
                self._holders -= 1
                if self._holders == 0 and self._before != self._wanted:
                    self._write(self._before)
