"""What a cluster needs, piece by piece and without one: luggage, exchange, second tries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import dynprune_agents
from dynprune_env.benchmark.checkpoints import Checkpoint, Stopped
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.exchange import RUNNING, MailExchange, state_path
from dynprune_env.benchmark.packing import pack
from dynprune_env.benchmark.results import load_results
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.common import luggage as travel
from dynprune_env.common import ray_cluster
from dynprune_env.common.luggage import Luggage
from dynprune_env.common.processes import WorkerDied, call_each

ROOTS = [str(Path(each.__file__).parents[1]) for each in map(__import__, ("dynprune_env",))]
ROOTS += [str(Path(dynprune_agents.__file__).parents[1])]
SMALL: dict[str, Any] = {"train_size": 60, "epochs": 4, "budget": 0.5}
AGENT = """
from dataclasses import dataclass
from dynprune_agents.dynamic.ucb import UCB
from {helper} import C

@dataclass
class Mine(UCB):
    weights: str = ""
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Path:
    """A user's folder: a package that uses a module beside it, and files."""
    for path, text in {
        "pack_a/__init__.py": "",
        "pack_a/deep/__init__.py": "",
        "pack_a/deep/rules.py": AGENT.format(helper="pack_a.tools"),
        "pack_a/tools.py": "from lone_module import C\n",
        "pack_a/table.csv": "1,2\n",
        "pack_a/lazy.py": "",
        "lone_module.py": "C = 1.0\n",
        "stranger.py": "",
        "files/a.npz": "1",
        "files/b.npz": "2",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pack_a", "pack_a.deep", "pack_a.deep.rules", "pack_a.tools", "lone_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def packed(*agents: str, **others: Any) -> Luggage:
    groups = [RunGroup("DynPrune-Digits-v0", SMALL, agent, (0,)) for agent in agents]
    return pack(groups, dynprune_agents.make, **others)


# -- what travels ------------------------------------------------------------------------------


def test_the_package_around_an_agent_travels_whole_with_what_it_imports(home: Path) -> None:
    found = packed("pack_a.deep.rules:Mine")
    assert sorted(found.modules) == [
        "lone_module.py",
        *(f"pack_a/{name}" for name in ("__init__.py", "deep/__init__.py", "deep/rules.py")),
        *(f"pack_a/{name}" for name in ("lazy.py", "table.csv", "tools.py")),
    ]


def test_installed_agents_need_no_luggage() -> None:
    found = packed("ucb(c=2.0)", "learned", "learned(policy='robust')", "random_control")
    assert not found.modules and not found.files


@pytest.mark.parametrize(
    "agent",
    [
        "learned(policy='files/a.npz')",
        "learned(policy='./files/../files/a.npz')",
        "random_control(rule=\"learned(policy='files/a.npz')\")",
        "pack_a.deep.rules:Mine(weights='files/a.npz')",
        "not.there:Mine(weights=['files/a.npz'], more={'b': 1})",
    ],
)
def test_files_that_a_spec_names_travel_however_deep(home: Path, agent: str) -> None:
    (found,) = packed(agent).files
    assert found.resolve() == home / "files/a.npz"


def test_an_absolute_path_travels_under_its_own_name(home: Path) -> None:
    path = home / "files/b.npz"
    assert packed(f"learned(policy={str(path)!r})").files == (path,)


def test_too_much_luggage_is_refused_by_the_name_of_the_largest(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "pack_a/huge.bin").write_bytes(bytes(5000))
    monkeypatch.setattr(travel, "MOST_BYTES", 4000)
    with pytest.raises(ValueError, match=r"the largest is .*pack_a/huge\.bin"):
        packed("pack_a.deep.rules:Mine")


def test_the_same_luggage_has_the_same_key_and_an_edit_another(home: Path) -> None:
    keys = [packed("pack_a.deep.rules:Mine").key for _ in range(2)]
    (home / "pack_a/lazy.py").write_text("x = 1\n")
    assert keys[0] == keys[1] != packed("pack_a.deep.rules:Mine").key


THERE = """
import json, sys
from pathlib import Path
from dynprune_env.common.luggage import Luggage, stand_in
Luggage.unpack(Path(sys.argv[1]).read_bytes())
import dynprune_agents
agent = dynprune_agents.make(sys.argv[2])
print(json.dumps([
    repr(agent), stand_in(agent.weights).read_text(),
    Path(agent.weights).read_text() if Path(agent.weights).exists() else None,
    sys.modules["lone_module"].__file__, str(stand_in("elsewhere.npz")),
]))
"""


def unpack_elsewhere(home: Path, spec: str, folder: Path) -> list[Any]:
    """What a process says that unpacks it in another folder, the user's being gone."""
    import json

    (folder / "files").mkdir(parents=True)
    (folder / "files/b.npz").write_text("another file of the same name")
    (folder / "luggage").write_bytes(packed(spec).packed)
    home.rename(gone := home.with_name("gone"))
    try:
        done = subprocess.run(
            [sys.executable, "-c", THERE, "luggage", spec],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "TMPDIR": str(folder)},
            capture_output=True,
            text=True,
        )
    finally:
        gone.rename(home)
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("*scratch"))  # it is removed at the end
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("absolute", [False, True])
def test_modules_and_files_are_found_where_the_users_folder_is_not(
    absolute: bool, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(home / "files/b.npz") if absolute else "files/b.npz"
    spec = f"pack_a.deep.rules:Mine(weights={path!r})"
    folder = tmp_path_factory.mktemp("another") / "machine"
    label, text, opens, module, other = unpack_elsewhere(home, spec, folder)
    assert label == spec  # as the driver spells it
    assert text == "2"
    assert opens == (None if absolute else "2")
    assert module.startswith(str(folder))
    assert other == "elsewhere.npz"


def test_the_scratch_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    make = "from dynprune_env.common.scratch import scratch_folder; print(scratch_folder());"
    kill = "import os, signal, sys; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(ROOTS),
        "TMPDIR": str(tmp_path),
    }
    command = [sys.executable, "-c"]
    with subprocess.Popen(
        [*command, f"{make} sys = __import__('sys'); sys.stdout.flush(); sys.stdin.read()"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as living:
        assert living.stdout is not None
        its = Path(living.stdout.readline().strip())
        done = subprocess.run([*command, make + kill], env=environment, capture_output=True)
        killed = Path(done.stdout.decode().strip())
        assert killed.exists() and killed != its
        subprocess.run([*command, make], env=environment, check=True, capture_output=True)
        assert not killed.exists()
        assert its.exists()
        living.communicate()


def test_other_code_of_dynprune_is_refused() -> None:
    nothing = Luggage({}).packed
    item = cloudpickle.dumps((len, "four"))
    with pytest.raises(ValueError, match="has other code of dynprune"):
        ray_cluster._perform(nothing, item, "another hash")


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
    with store.checkpoint(0) as checkpoint:
        for epoch in range(3):
            checkpoint.save(lambda epoch=epoch: {"epoch": epoch})
    assert len(mailbox.content) == 1
    assert not (tmp_path / RUNNING).exists()
    assert not exchange.got_on((group, (0, 1)))
    exchange.collect()
    assert not mailbox.content
    assert exchange.got_on((group, (0, 1)))
    assert Checkpoint(state_path(tmp_path, group)).load() == {"epoch": 2}


def test_the_next_try_begins_with_the_last_state_and_the_dead_one_writes_no_more(
    tmp_path: Path,
) -> None:
    exchange, _ = exchange_in(tmp_path)
    group = group_of()
    first = exchange.assign((group, (0, 1))).store
    with first.checkpoint(0) as checkpoint:
        assert checkpoint.load() is None
        checkpoint.save(lambda: {"epoch": 1})
        second = exchange.assign((group, (0, 1))).store  # collects before
        checkpoint.save(lambda: {"epoch": 2})  # taken for dead, and late
    exchange.collect()
    assert not exchange.got_on((group, (0, 1)))
    assert Checkpoint(state_path(tmp_path, group)).load() == {"epoch": 1}
    with second.checkpoint(0) as checkpoint:
        assert checkpoint.load() == {"epoch": 1}


def test_a_late_state_of_a_finished_run_is_thrown_away(tmp_path: Path) -> None:
    exchange, _ = exchange_in(tmp_path)
    group = group_of()
    with exchange.assign((group, (0, 1))).store.checkpoint(0) as checkpoint:
        checkpoint.save(lambda: {"epoch": 1})
        exchange.collect()
        exchange.forget(group)
        checkpoint.save(lambda: {"epoch": 2})
    exchange.collect()
    assert not list((tmp_path / RUNNING).glob("*.state"))


def test_a_run_is_told_to_stop_through_the_mailbox_and_leaves_its_state(tmp_path: Path) -> None:
    exchange, mailbox = exchange_in(tmp_path)
    store = exchange.assign((group_of(), (0, 1))).store
    with store.checkpoint(1e9) as checkpoint:
        checkpoint.pause(lambda: {"epoch": 1})
        exchange.ask_to_stop()
        assert exchange.stopping() and not mailbox.asked  # a signal handler talks to nobody
        exchange.collect()
        checkpoint._asked = 0.0
        with pytest.raises(Stopped):
            checkpoint.pause(lambda: {"epoch": 2})
    exchange.collect()
    assert Checkpoint(state_path(tmp_path, group_of())).load() == {"epoch": 2}


def test_a_full_disk_of_the_driver_stops_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange, mailbox = exchange_in(tmp_path)
    with exchange.assign((group_of(), (0, 1))).store.checkpoint(0) as checkpoint:
        checkpoint.save(lambda: {"epoch": 1})
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
