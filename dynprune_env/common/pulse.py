"""Work that takes long tells how far it is, to whoever listens, from wherever it happens.

What works calls `beat` whenever it could be interrupted; a listener may show it, or raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, float], None]
"""Told what is being done, "epoch 3 of 20", and the share of it that is done, in [0, 1]."""

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())
_doing: ContextVar[str] = ContextVar("doing", default="")


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Lets a function hear all that is done inside, in this thread."""
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


@contextmanager
def unheard() -> Iterator[None]:
    """Lets nobody hear what is done inside, in this thread."""
    token = _listeners.set(())
    try:
        yield
    finally:
        _listeners.reset(token)


class doing:  # a class, since every step enters it: a generator takes longer
    """Names what is done inside; "this: that" where that is a part of this."""

    def __init__(self, what: str):
        self._what = what

    def __enter__(self) -> None:
        whole = _doing.get()
        self._token = _doing.set(f"{whole}: {self._what}" if whole else self._what)

    def __exit__(self, *error: object) -> None:
        _doing.reset(self._token)


def beat(share: float) -> None:
    """Says that this share of what is being done is done, in [0, 1]."""
    for listener in _listeners.get():
        listener(_doing.get(), share)
