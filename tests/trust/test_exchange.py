"""What driver and workers of a cluster exchange, without one: states, the word to stop, deaths."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import dynprune_agents
from dynprune_env.benchmark.checkpoints import Checkpoint, Stopped
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.exchange import RUNNING, MailExchange, state_path
from dynprune_env.benchmark.results import load_results
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.common import ray_cluster
from dynprune_env.common.luggage import Luggage
from dynprune_env.common.processes import LokyWorker, WorkerDied, call_each

SMALL: dict[str, Any] = {"train_size": 60, "epochs": 4, "budget": 0.5}


# -- states and the word to stop ---------------------------------------------------------------


@dataclass
class FakeMailbox:
    """A mailbox without Ray: everything crosses it as bytes."""

    content: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0
    asked: bool = False
    stop_after: int | None = None

    def send(self, sender: str, content: bytes) -> None:
        assert isinstance(content, bytes)
        self.sent += 1
        self.content[sender] = content

    def senders(self) -> list[str]:
        return list(self.content)

    def take(self, sender: str) -> bytes | None:
        return self.content.pop(sender, None)

    def ask_to_stop(self) -> None:
        self.asked = True

    def stopping(self) -> bool:
        return self.asked or (self.stop_after is not None and self.sent >= self.stop_after)

    def close(self) -> None:
        pass


def state_of(epoch: int) -> dict[str, Any]:
    """The least that is taken for a state."""
    return {"seeds": [0, 1], "origin": {}, "results": [epoch]}


def group_of(agent: str = "ucb", seeds: tuple[int, ...] = (0, 1)) -> RunGroup:
    return RunGroup("DynPrune-Digits-v0", SMALL, repr(dynprune_agents.make(agent)), seeds)


def exchange_in(folder: Path) -> tuple[MailExchange, FakeMailbox]:
    mailbox = FakeMailbox()
    return MailExchange(folder, mailbox), mailbox  # type: ignore[arg-type]


def test_an_assignment_of_a_cluster_holds_no_path_of_the_driver(tmp_path: Path) -> None:
    exchange, _ = exchange_in(tmp_path / "results-of-the-driver")
    told = cloudpickle.dumps(exchange.assign((group_of(), (0, 1))))
    assert b"results-of-the-driver" not in told


def test_only_the_last_state_of_a_run_is_kept_and_only_the_driver_writes_it(
    tmp_path: Path,
) -> None:
    exchange, mailbox = exchange_in(tmp_path)
    group = group_of()
    store = exchange.assign((group, (0, 1))).store
    with store.checkpoint(0, False) as checkpoint:
        for epoch in range(3):
            checkpoint.save(lambda epoch=epoch: state_of(epoch))
    assert len(mailbox.content) == 1
    assert not (tmp_path / RUNNING).exists()
    assert not exchange.got_on((group, (0, 1)))
    exchange.collect()
    assert not mailbox.content
    assert exchange.got_on((group, (0, 1)))
    assert Checkpoint(state_path(tmp_path, group)).load() == state_of(2)


def test_the_next_try_begins_with_the_last_state_and_the_dead_one_writes_no_more(
    tmp_path: Path,
) -> None:
    exchange, _ = exchange_in(tmp_path)
    group = group_of()
    first = exchange.assign((group, (0, 1))).store
    with first.checkpoint(0, False) as checkpoint:
        assert checkpoint.load() is None
        checkpoint.save(lambda: state_of(1))
        second = exchange.assign((group, (0, 1))).store  # collects before
        checkpoint.save(lambda: state_of(2))  # taken for dead, and late
    exchange.collect()
    assert not exchange.got_on((group, (0, 1)))
    assert Checkpoint(state_path(tmp_path, group)).load() == state_of(1)
    with second.checkpoint(0, False) as checkpoint:
        assert checkpoint.load() == state_of(1)


def test_a_late_state_of_a_finished_run_is_thrown_away(tmp_path: Path) -> None:
    exchange, _ = exchange_in(tmp_path)
    group = group_of()
    with exchange.assign((group, (0, 1))).store.checkpoint(0, False) as checkpoint:
        checkpoint.save(lambda: state_of(1))
        exchange.collect()
        exchange.forget(group)
        checkpoint.save(lambda: state_of(2))
    exchange.collect()
    assert not list((tmp_path / RUNNING).glob("*.state"))


def test_a_run_is_told_to_stop_through_the_mailbox_and_leaves_its_state(tmp_path: Path) -> None:
    exchange, mailbox = exchange_in(tmp_path)
    store = exchange.assign((group_of(), (0, 1))).store
    with store.checkpoint(1e9, False) as checkpoint:
        checkpoint.pause(lambda: state_of(1))
        exchange.ask_to_stop()
        assert exchange.stopping() and not mailbox.asked  # a signal handler talks to nobody
        exchange.collect()
        checkpoint._asked = 0.0
        with pytest.raises(Stopped):
            checkpoint.pause(lambda: state_of(2))
    exchange.collect()
    assert Checkpoint(state_path(tmp_path, group_of())).load() == state_of(2)


def test_a_full_disk_of_the_driver_stops_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange, mailbox = exchange_in(tmp_path)
    with exchange.assign((group_of(), (0, 1))).store.checkpoint(0, False) as checkpoint:
        checkpoint.save(lambda: state_of(1))
    (tmp_path / RUNNING).write_text("a file where the folder should be")
    exchange.collect()
    assert "cannot be saved" in caplog.text
    assert not mailbox.content


def test_a_torn_result_of_the_driver_is_replaced_by_the_one_that_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = group_of()
    torn = tmp_path / f"{group.configs()[0].key}.json"
    torn.write_text('{"schema"')
    through_mail(monkeypatch, [Fake()])
    (outcome,) = run_sweep([group], dynprune_agents.make, tmp_path, backend="ray", jobs=1)
    assert outcome.error is None
    assert len(list(load_results([tmp_path]))) == 2


# -- second tries ------------------------------------------------------------------------------


@dataclass
class Fake:
    """A worker that dies, refuses or does its work, in turn."""

    fates: list[str] = field(default_factory=list)

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future[Any]:
        future: Future[Any] = Future()
        fate = self.fates.pop(0) if self.fates else "works"
        call, item = cloudpickle.loads(cloudpickle.dumps((call, item)))
        if fate == "works":
            future.set_result(call(item))
        elif fate.startswith("dies"):
            future.set_exception(ConnectionError("the node is gone"))
        else:
            future.set_exception(ValueError(fate))
        return future

    def close(self) -> None:
        pass

    def refusal(self, error: BaseException) -> BaseException | None:
        return error if isinstance(error, ValueError) else None


def through_mail(monkeypatch: pytest.MonkeyPatch, workers: list[Fake]) -> None:
    """Makes the backend ray one of fake workers."""

    @dataclass
    class FakeCluster:
        jobs: int
        gpus: float
        luggage: Luggage
        mailbox: FakeMailbox = field(default_factory=FakeMailbox)

        def workers(self, jobs: int) -> list[Fake]:
            return workers

    monkeypatch.setattr(ray_cluster, "Cluster", FakeCluster)


def tries(fates: list[str], got_on: list[bool]) -> list[Any]:
    """What comes of one item."""
    answers = iter(got_on)
    found = call_each(
        len,
        ["four"],
        [Fake(fates)],
        assign=lambda item: item,
        on_start=lambda item: None,
        stopping=lambda: False,
        got_on=lambda item: next(answers, False),
    )
    return [each for _, each in found]


def test_a_call_that_gets_on_between_its_deaths_is_tried_on() -> None:
    assert tries(["dies"], []) == [4]
    assert tries(["dies"] * 5, [True] * 4) == [4]
    (error,) = tries(["dies"] * 3, [True, False])
    assert isinstance(error, WorkerDied)
    assert str(error) == "twice. the node is gone"


def test_a_process_that_was_started_plays_and_one_that_died_idle_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    worker = LokyWorker()
    worker.start("tabnanny")
    first = worker.submit(pid_with, "tabnanny").result(timeout=60)
    assert first > 0, "the module was not loaded"
    assert "tabnanny" not in sys.modules  # nor is it here
    os.kill(first, signal.SIGKILL)
    with pytest.raises(BrokenExecutor):  # until the pool notices
        while True:
            worker._pool.submit(pid_with, "json").result(timeout=60)
    second = worker.submit(pid_with, "json").result(timeout=60)
    assert abs(second) not in (first, os.getpid())
    worker.close()


def test_a_process_that_keeps_more_than_its_first_call_did_plays_on() -> None:
    worker = LokyWorker()
    pids = {worker.submit(pid_after_keeping, megabytes).result(60) for megabytes in (0, 400, 0)}
    assert len(pids) == 1
    worker.close()


KEPT: list[bytes] = []


def pid_after_keeping(megabytes: int) -> int:
    """The process's; loky looks at its memory once a second at most."""
    time.sleep(1.1)
    KEPT.append(b"x" * (megabytes << 20))
    return os.getpid()


def pid_with(module: str) -> int:
    """The process's, negative where it has not loaded a module."""
    return os.getpid() if module in sys.modules else -os.getpid()


def test_a_call_that_is_refused_is_not_tried_again() -> None:
    fates = ["no such module", "never asked"]
    (error,) = tries(fates, [])
    assert isinstance(error, ValueError)
    assert fates == ["never asked"]


def test_a_refusal_is_recorded_as_the_error_that_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_mail(monkeypatch, [Fake(["other code of dynprune"])])
    (outcome,) = run_sweep([group_of()], dynprune_agents.make, tmp_path, backend="ray")
    assert outcome.error == "ValueError: other code of dynprune"


# -- the border --------------------------------------------------------------------------------


@pytest.mark.parametrize("gpus", [-1, 1.5])
def test_gpus_are_a_share_or_whole(gpus: float) -> None:
    with pytest.raises(ValueError, match=r"gpus is a share of one in \[0, 1\] or a whole number"):
        ray_cluster.Cluster(1, gpus, Luggage({}))


def test_an_address_without_a_cluster_is_an_error_and_no_cluster_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"):
        ray_cluster.Cluster(1, 0, Luggage({}))
    assert not ray.is_initialized()


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backend is one of loky, ray, got 'dask'"):
        list(run_sweep([group_of()], dynprune_agents.make, tmp_path, backend="dask"))
    with pytest.raises(
        ValueError, match=r"gpus are reserved by the backend ray, got 0\.5 for loky"
    ):
        list(run_sweep([group_of()], dynprune_agents.make, tmp_path, gpus=0.5))
