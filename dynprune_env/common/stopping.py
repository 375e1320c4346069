"""The first Ctrl-C asks, the second one stops at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """Work was asked to stop, and has done so where it can go on from."""


@contextmanager
def stoppable(stopping: Callable[[], bool], ask: Callable[[], None], when: str) -> Iterator[None]:
    """Hands the first Ctrl-C or SIGTERM on; the second raises KeyboardInterrupt.

    Args:
        stopping: whether it was asked already.
        ask: asks; safe in a signal handler.
        when: the work will stop, for the message, e.g. "when the epochs under way have ended".
    """

    def handle(signum: int, frame: object) -> None:
        if stopping():
            raise KeyboardInterrupt
        ask()
        logger.warning("stopping %s; once more stops at once", when)

    old: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # only it can handle signals
        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
