"""Calls on a Ray cluster, whose machines share no disk with this one: all that knows Ray."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import cloudpickle

from dynprune_env.common.luggage import Luggage
from dynprune_env.common.processes import ONE_THREAD, Worker
from dynprune_env.common.sources import package_hash

S = TypeVar("S")
R = TypeVar("R")


class Cluster:
    """The Ray cluster at $RAY_ADDRESS or the one of this machine; started here if there is none.

    One of its own is started in any case where $RAY_ADDRESS is "local".

    Attributes:
        mailbox: what the calls on it leave for this process, and ask it.

    Args:
        jobs: processors of a cluster that is started here.
        gpus: GPUs that Ray reserves for each call; 0.5 lets two share one.
        luggage: files that the calls find wherever they are made.

    Raises:
        ValueError: Ray is not installed, $RAY_ADDRESS does not answer, or no machine has as many
            GPUs.
    """

    def __init__(self, jobs: int, gpus: float, luggage: Luggage):
        if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise ValueError(f"gpus is a share of one in [0, 1] or a whole number, got {gpus:g}")
        try:
            import ray
        except ImportError as error:
            raise ValueError('--backend ray needs Ray: pip install "dynprune[ray]"') from error
        if not ray.is_initialized():
            _connect(jobs)
        most = max(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"])
        if gpus > most:
            raise ValueError(
                f"--gpus {gpus:g} asks for more than any machine of the Ray cluster has: {most:g}"
            )
        self._gpus = gpus
        self._luggage = luggage
        self._content = ray.put(luggage.packed)
        self.mailbox = Mailbox.on_this_machine()

    def workers(self, jobs: int) -> list[Worker]:
        """As many calls at once, wherever there is room for them."""
        import ray

        # Ray keeps processes of other variables apart: none has other luggage's modules loaded.
        variables = {**ONE_THREAD, "DYNPRUNE_LUGGAGE": self._luggage.key}
        task = ray.remote(_perform).options(
            num_cpus=1,
            num_gpus=self._gpus,
            max_retries=0,
            runtime_env={"env_vars": variables},
        )
        return [RayWorker(task, self._content) for _ in range(jobs)]

    def close(self) -> None:
        """Ends the mailbox; the cluster stays."""
        self.mailbox.close()


class RayWorker:
    """One call at a time, each in any process of the cluster."""

    def __init__(self, task: Any, content: Any):
        self._task, self._content = task, content
        self._running: Any = None

    def submit(self, call: Callable[[S], R], item: S) -> Future[R]:
        """Begins a call."""
        packed = cloudpickle.dumps((call, item))
        self._running = self._task.remote(self._content, packed, package_hash())
        future: Future[R] = self._running.future()
        return future

    def close(self) -> None:
        """Ends the call, if it is still under way."""
        import ray

        if self._running is not None and ray.is_initialized():
            ray.cancel(self._running, force=True)
        self._running = None

    def refusal(self, error: BaseException) -> BaseException | None:
        """What was raised before the call began, such as for want of a module."""
        from ray.exceptions import RayTaskError

        return error.cause if isinstance(error, RayTaskError) else None


def _perform(luggage: bytes, packed: bytes, code: str) -> Any:
    """What a process of the cluster does for a call.

    Raises:
        ValueError: this machine has another version of the package.
    """
    if package_hash() != code:
        raise ValueError(
            f"machine {os.uname().nodename} has other code of dynprune than the one that runs the "
            "benchmark: install the same version on all machines of the cluster"
        )
    Luggage.unpack(luggage)
    call, item = cloudpickle.loads(packed)
    return call(item)


def _connect(jobs: int) -> None:
    """Raises ValueError if there is a cluster's address but no answer."""
    import ray

    address = os.environ.get("RAY_ADDRESS", "")
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():  # Ray itself would try for minutes
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise ValueError(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from error
    if address != "local":
        try:
            ray.init("auto", log_to_driver=False)
            return
        except ConnectionError as error:
            if address:
                raise ValueError(f"no Ray cluster answers at RAY_ADDRESS={address}") from error
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    ray.init(
        "local",
        num_cpus=jobs,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},  # finds this package in a checkout
    )


class Mailbox:
    """What the calls leave for the process that made them, and whether they are to stop.

    It is held by a Ray actor on that process's machine and keeps the last content of each sender
    only. If the actor dies Ray starts another one, empty: senders then send again, later.
    """

    def __init__(self, actor: Any):
        self._actor = actor

    @classmethod
    def on_this_machine(cls) -> Mailbox:
        """An empty one."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(_Letters).options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        )
        return cls(actor.remote())

    def send(self, sender: str, content: bytes) -> None:
        """Leaves content in place of the sender's last; it is there when this returns."""
        self._ask("put", sender, content)

    def senders(self) -> list[str]:
        """Of whom there is content."""
        found: list[str] = self._ask("senders")
        return found

    def take(self, sender: str) -> bytes | None:
        """Takes a sender's content out; None if there is none."""
        found: bytes | None = self._ask("take", sender)
        return found

    def ask_to_stop(self) -> None:
        """Makes `stopping` true."""
        self._ask("stop")

    def stopping(self) -> bool:
        """Whether the calls are to stop."""
        return bool(self._ask("stopping"))

    def close(self) -> None:
        """Ends it, with what it holds."""
        import ray

        if ray.is_initialized():
            ray.kill(self._actor)

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self._actor, method).remote(*arguments))


class _Letters:
    """The state of a mailbox."""

    def __init__(self) -> None:
        self._content: dict[str, bytes] = {}
        self._stopping = False

    def put(self, sender: str, content: bytes) -> None:
        self._content[sender] = content

    def senders(self) -> list[str]:
        return list(self._content)

    def take(self, sender: str) -> bytes | None:
        return self._content.pop(sender, None)

    def stop(self) -> None:
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping
