"""Where the states and results of runs go and how they are told to stop: a folder, or a mailbox.

Workers of this machine write into the folder of the results and look for a file that says stop.
Those of a cluster have another disk: they hold no path of the driver's at all, and send states and
results to it, which is the only one that writes.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dynprune_env.benchmark.checkpoints import Checkpoint
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import Result
from dynprune_env.common.files import atomic_write
from dynprune_env.common.ray_cluster import Mailbox
from dynprune_env.common.scratch import scratch_folder
from dynprune_env.common.stopping import stoppable

logger = logging.getLogger(__name__)
RUNNING = "running"
"""Subfolder of the states of unfinished runs."""
STOP_INTERVAL = 0.2
"""Seconds between two questions of a run on a cluster whether to stop."""


def state_path(folder: Path, group: RunGroup) -> Path:
    """Where the state of a group's unfinished runs lies."""
    return folder / RUNNING / f"{group.key}.state"


class RunStore(Protocol):
    """The worker's side: where the states and results of one group's runs go. Picklable."""

    def checkpoint(self, every: float, trust: bool) -> Any:
        """A context manager with the `Checkpoint` of the runs; see there."""

    def keep(self, result: Result) -> None:
        """Writes a result if this is the place to."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is told: seeds of a group to be played, and where they go."""

    group: RunGroup
    seeds: tuple[int, ...]
    store: RunStore


class Exchange(Protocol):
    """The driver's side.

    Attributes:
        workers_write: whether results are written by the workers.
    """

    workers_write: bool

    def assign(self, item: tuple[RunGroup, tuple[int, ...]]) -> Assignment:
        """Tells a worker what to play, from the last state on."""

    def collect(self) -> None:
        """Writes the states that have come, and tells the workers whether to stop."""

    def forget(self, group: RunGroup) -> None:
        """Removes the state of a group whose results are all written."""

    def got_on(self, item: tuple[RunGroup, tuple[int, ...]]) -> bool:
        """Whether there is a newer state than when a group was last assigned."""

    def ask_to_stop(self) -> None:
        """Makes `stopping` true; safe in a signal handler."""

    def stopping(self) -> bool:
        """Whether the runs are to stop."""

    def close(self) -> None:
        """Leaves nothing behind but results and states."""


@contextmanager
def stoppable_runs(exchange: Exchange) -> Iterator[None]:
    """Hands the first Ctrl-C or SIGTERM on to the workers; closes the exchange at the end."""
    when = "when the epochs under way have ended"
    try:
        with stoppable(exchange.stopping, exchange.ask_to_stop, when):
            yield
    finally:
        exchange.close()


# -- workers of this machine -------------------------------------------------------------------


@dataclass(frozen=True)
class FolderStore:
    """The folder of the results."""

    folder: Path
    path: Path
    stop: Path

    @contextmanager
    def checkpoint(self, every: float, trust: bool) -> Iterator[Checkpoint]:
        """One that writes into the folder."""
        yield Checkpoint(self.path, every, self.stop, trust)

    def keep(self, result: Result) -> None:
        """Writes it."""
        result.save(self.folder)


class FolderExchange:
    """A folder that driver and workers share."""

    workers_write = True

    def __init__(self, folder: Path):
        self._folder = folder
        self._stop = folder / RUNNING / f".stop-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def assign(self, item: tuple[RunGroup, tuple[int, ...]]) -> Assignment:
        """Names the folder."""
        group, seeds = item
        store = FolderStore(self._folder, state_path(self._folder, group), self._stop)
        return Assignment(group, seeds, store)

    def collect(self) -> None:
        """Nothing to do: the workers have written all."""

    def forget(self, group: RunGroup) -> None:
        """Nothing to do: the worker has removed it."""

    def got_on(self, item: tuple[RunGroup, tuple[int, ...]]) -> bool:
        """Never: a process of this machine that dies twice has its reason in the run."""
        return False

    def ask_to_stop(self) -> None:
        """Makes the file."""
        self._stop.parent.mkdir(parents=True, exist_ok=True)
        self._stop.touch()

    def stopping(self) -> bool:
        """Whether the file is there."""
        return self._stop.exists()

    def close(self) -> None:
        """Removes the file."""
        self._stop.unlink(missing_ok=True)
        with suppress(OSError):
            self._stop.parent.rmdir()


# -- workers of a cluster ----------------------------------------------------------------------


@dataclass
class SentCheckpoint(Checkpoint):
    """A checkpoint whose states are sent to the driver; `path` is only where they are made."""

    send: Callable[[bytes], None] = lambda content: None
    ask: Callable[[], bool] = lambda: False
    _asked: float = field(default=0.0, repr=False)

    def stopping(self) -> bool:
        """Asks the driver, unless it has just been asked."""
        if time.monotonic() - self._asked < STOP_INTERVAL:
            return False
        stopping = self.ask()
        self._asked = time.monotonic()
        return stopping

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Sends `state()`. Where that fails, the run goes on; it only cannot be resumed."""
        super().save(state)
        try:
            if self.path.exists():
                self.send(self.path.read_bytes())
        except Exception as error:
            logger.warning("the state of a run cannot be sent: %s", error)
        finally:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class MailStore:
    """The driver's mailbox, and the state that it gave along.

    Attributes:
        mailbox: takes the states.
        sender: under which name.
        state: the file of the last state, None to begin.
    """

    mailbox: Mailbox
    sender: str
    state: bytes | None = field(repr=False)

    @contextmanager
    def checkpoint(self, every: float, trust: bool) -> Iterator[Checkpoint]:
        """One that sends."""
        path = scratch_folder() / f"{self.sender}.state"
        if self.state is not None:
            path.write_bytes(self.state)
        try:
            yield SentCheckpoint(
                path,
                every,
                trust=trust,
                send=lambda content: self.mailbox.send(self.sender, content),
                ask=self.mailbox.stopping,
            )
        finally:
            path.unlink(missing_ok=True)

    def keep(self, result: Result) -> None:
        """Nothing to do: it comes to the driver with the outcome."""


class MailExchange:
    """A mailbox that the workers send to, and a folder that only the driver writes into."""

    workers_write = False

    def __init__(self, folder: Path, mailbox: Mailbox):
        self._folder, self._mailbox = folder, mailbox
        self._assigned: dict[str, RunGroup] = {}
        self._got_on: set[str] = set()
        self._stopping = False

    def assign(self, item: tuple[RunGroup, tuple[int, ...]]) -> Assignment:
        """Gives the last state along; what earlier tries send from now on is thrown away."""
        self.collect()
        group, seeds = item
        self._drop(group)
        sender = uuid.uuid4().hex
        self._assigned[sender] = group
        self._got_on.discard(group.key)
        path = state_path(self._folder, group)
        state = path.read_bytes() if path.exists() else None
        return Assignment(group, seeds, MailStore(self._mailbox, sender, state))

    def collect(self) -> None:
        """Empties the mailbox, one state after the other: they may be large."""
        if self._stopping:
            self._mailbox.ask_to_stop()
        for sender in self._mailbox.senders():
            content, group = self._mailbox.take(sender), self._assigned.get(sender)
            if content is None or group is None:
                continue
            try:
                with atomic_write(state_path(self._folder, group)) as temporary:
                    temporary.write_bytes(content)
                self._got_on.add(group.key)
            except OSError as error:  # a full disk: the run goes on, it only cannot be resumed
                logger.warning("the state of a run cannot be saved: %s", error)

    def forget(self, group: RunGroup) -> None:
        """Removes it; a process that was taken for dead sends in vain from now on."""
        self._drop(group)
        state_path(self._folder, group).unlink(missing_ok=True)

    def _drop(self, group: RunGroup) -> None:
        self._assigned = {s: other for s, other in self._assigned.items() if other.key != group.key}

    def got_on(self, item: tuple[RunGroup, tuple[int, ...]]) -> bool:
        """Whether its last assignment has sent a state."""
        return item[0].key in self._got_on

    def ask_to_stop(self) -> None:
        """Remembers it; `collect` tells the workers."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether it was asked for."""
        return self._stopping

    def close(self) -> None:
        """Ends the mailbox."""
        self._mailbox.close()
