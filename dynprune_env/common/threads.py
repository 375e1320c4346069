"""How many threads compute: sums are rounded as they are split up, so the number is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

_allowed: ContextVar[int | None] = ContextVar("allowed", default=None)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Lets torch's operations on a CPU use so many threads; puts the caller's number back."""
    before = torch.get_num_threads()
    token = _allowed.set(before) if _allowed.get() is None else None
    if before != number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if token is not None:
            _allowed.reset(token)
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def allowed_threads() -> int:
    """The number that torch had outside of all `torch_threads`: for work that rounds alike."""
    return _allowed.get() or torch.get_num_threads()


def blas_threads(number: int) -> AbstractContextManager[object]:
    """Lets numpy's linear algebra use so many threads; puts the old number back."""
    return _libraries().limit(limits=number, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """The thread pools of this process, looked up once."""
    return ThreadpoolController()
