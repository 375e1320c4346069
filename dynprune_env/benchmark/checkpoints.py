"""Where runs stand, saved between epochs, so that killed ones go on instead of starting again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.results import Result, RunConfig
from dynprune_env.common.files import atomic_write
from dynprune_env.common.plain import Packer, Unpacker, read_plain
from dynprune_env.common.restorable import restorable
from dynprune_env.common.stopping import Stopped as Stopped
from dynprune_env.selection.agent import SelectionAgent
from dynprune_env.selection.agent_state import pack_agent

for _cls in (Result, RunConfig, Fingerprint):
    restorable(_cls)

PARTS = {"seeds", "origin", "game", "agent", "observation", "log", "preparation", "seconds"}
"""What the state of runs under way consists of."""

ENDED = {"seeds", "origin", "results"}
"""What is kept of runs that have ended, until each result has its file."""

logger = logging.getLogger(__name__)


@dataclass
class Checkpoint:
    """One file with the state of runs that share the replica axis.

    It holds plain values, which `torch.load(path, weights_only=True)` opens. Only an agent that
    holds others (one's own, say, with a network) is a pickle, and only if `trust` says so: opening
    it runs whatever code it holds.

    Attributes:
        path: the file.
        every: seconds between two savings; 0 saves after every epoch.
        stop: when this file appears the runs are saved and `Stopped` is raised.
        trust: whether agents that hold what is no plain value are pickled and unpickled.
    """

    path: Path
    every: float = 30.0
    stop: Path | None = None
    trust: bool = False
    _saved: float = field(default_factory=time.monotonic)
    _said: str = ""

    def stopping(self) -> bool:
        """Whether the runs are to stop."""
        return self.stop is not None and self.stop.exists()

    def pause(self, state: Callable[[], dict[str, Any]]) -> None:
        """Called between epochs: saves `state()` if it is time to.

        Raises:
            Stopped: the runs are to stop.
        """
        stopping = self.stopping()
        if stopping or time.monotonic() - self._saved >= self.every:
            self.save(state)
            self._saved = time.monotonic()
        if stopping:
            raise Stopped

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Writes `state()`. Where that fails, the run goes on; it only cannot be resumed."""
        try:
            content = Packer().pack(state(), "the state")
            with atomic_write(self.path) as temporary:
                torch.save(content, temporary)
        except Exception as error:
            # A full disk, or an agent that holds what is no plain value.
            self._warn(str(error))

    def check_agent(self, agent: SelectionAgent) -> None:
        """Warns, before anything is played, of an agent whose runs cannot be saved."""
        try:
            pack_agent(agent, pickled=self.trust)
        except TypeError as error:
            self._warn(str(error))

    def _warn(self, why: str) -> None:
        """Says it once."""
        if why != self._said:
            logger.warning("a run cannot be saved, and begins again if it is stopped: %s", why)
        self._said = why

    def load(self) -> dict[str, Any] | None:
        """The saved state, its agent still packed (see `pack_agent`); None if there is none."""
        try:
            state: dict[str, Any] = Unpacker().unpack(read_plain(self.path))
            if not set(state) >= PARTS and not set(state) >= ENDED:
                raise ValueError("it is no state of runs")
        except FileNotFoundError:
            return None
        except Exception as error:
            logger.warning("%s cannot be read, the run starts again: %s", self.path, error)
            return None
        return state

    def remove(self) -> None:
        """Forgets the state."""
        self.path.unlink(missing_ok=True)
