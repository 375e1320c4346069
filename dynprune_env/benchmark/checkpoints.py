"""Where runs stand, saved between epochs, so that killed ones go on instead of starting again."""

from __future__ import annotations

import io
import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle

from dynprune_env.common.files import atomic_write
from dynprune_env.envs.scoring import TrainerProbe
from dynprune_env.selection.agent import Probe

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """Runs were asked to stop, and saved where they stand."""


@dataclass
class Checkpoint:
    """One file with the state of runs that share the replica axis.

    It is a pickle: it lies in one's own results folder, and must not be taken from elsewhere.

    Attributes:
        path: the file.
        every: seconds between two savings; 0 saves after every epoch.
        stop: when this file appears the runs are saved and `Stopped` is raised.
    """

    path: Path
    every: float = 30.0
    stop: Path | None = None
    _saved: float = field(default_factory=time.monotonic)

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
            content = state()
            with atomic_write(self.path) as temporary, temporary.open("wb") as file:
                pickle.dump(content, file)
        except Exception as error:
            # A full disk, or an agent with a member that cannot be pickled, such as a generator.
            logger.warning("the state of a run cannot be saved: %s", error)

    def load(self) -> dict[str, Any] | None:
        """The saved state, its agent still as bytes (see `pack_agent`); None if there is none."""
        try:
            state: dict[str, Any] = pickle.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            logger.warning("%s cannot be read, the run starts again: %s", self.path, error)
            return None
        return state

    def remove(self) -> None:
        """Forgets the state."""
        self.path.unlink(missing_ok=True)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def persistent_id(self, thing: Any) -> str | None:
        """A probe is a door to the running models, not a part of the agent's state."""
        return "probe" if isinstance(thing, TrainerProbe) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, probe: Probe):
        super().__init__(file)
        self._probe = probe

    def persistent_load(self, pid: str) -> Probe:
        return self._probe


def pack_agent(agent: Any) -> bytes:
    """An agent with all it has learned, but without its access to the running models."""
    file = io.BytesIO()
    _Pickler(file).dump(agent)
    return file.getvalue()


def unpack_agent(packed: bytes, probe: Probe) -> Any:
    """The agent again, with access to other models."""
    return _Unpickler(io.BytesIO(packed), probe).load()
