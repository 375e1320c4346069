"""Sweeps on machines that share no disk with the driver: nodes of one Ray cluster on this machine.

Their processes get an error for every path of the driver's folder, and have another working
directory and another PYTHONPATH.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynprune_agents
import dynprune_env
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.fingerprint import differences
from dynprune_env.benchmark.results import load_failures, load_results
from dynprune_env.benchmark.runner import RUNNING, run_sweep

ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "dynprune[ray]"')
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray's own
]
ROOTS = [Path(each.__file__).parents[1] for each in (dynprune_env, dynprune_agents)]
POLICIES = Path(dynprune_agents.__file__).parent / "policies"

OTHER_DISK = """
import os, sys

hidden, seen = os.environ["HIDDEN_FOLDER"], os.environ["HIDDEN_FOLDER_SEEN"]

def refuse(path, note=True):
    if isinstance(path, (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(path))
        if path == hidden or path.startswith(hidden + "/"):
            if note and path != hidden:  # Python looks whether a folder of sys.path is a zip file
                with open(seen, "a") as file:
                    file.write(path + "\\n")
            raise FileNotFoundError(2, "lies on the disk of another machine", path)

def hook(event, arguments):
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.truncate"):
        for path in arguments[:2]:
            refuse(path)
    elif event in ("os.listdir", "os.scandir", "os.chdir"):
        refuse(arguments[0], note=False)

def hiding(function):
    def stat(path, *arguments, **named):
        refuse(path, note=False)
        return function(path, *arguments, **named)
    return stat

sys.addaudithook(hook)
os.stat, os.lstat = hiding(os.stat), hiding(os.lstat)
"""

RULES = '''
import os, time
from dataclasses import dataclass
import numpy as np
import ray
from dynprune_agents.dynamic.ucb import UCB
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from .tools import half

@dataclass
class Halved(DynamicRandom):
    """Reads a table of its own, and calls helpers in and beside its package."""
    table: str = ""

    def reset(self, episode):
        super().reset(episode)
        import beside_it
        self.share = half(float(np.load(self.table)[0])) * beside_it.TWICE

    def keep_count(self, observation):
        return np.maximum(1, (super().keep_count(observation) * self.share).astype(np.int64))

@dataclass
class Slow(UCB):
    """Writes a line whenever it is asked: the node, its GPUs, and the epoch."""
    log: str = ""
    wait: float = 0.1

    def select(self, observation):
        with open(self.log, "a") as file:
            node = os.environ.get("RAY_NODE_ID") or (
                ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
            )
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            file.write(f"{node}|{gpus}|{self.epoch(observation)}\\n")
        time.sleep(self.wait)
        return super().select(observation)
'''


@dataclass
class Machines:
    """A cluster whose head plays nothing, and what its nodes can and cannot see."""

    cluster: Any
    driver: Path
    shared: Path

    def add_node(self, **resources: Any) -> Any:
        """Another machine."""
        with pytest.MonkeyPatch.context() as patch:
            self.live_elsewhere(patch)
            return self.cluster.add_node(num_cpus=1, **resources)

    def live_elsewhere(self, patch: pytest.MonkeyPatch) -> None:
        """Environment and working directory of the nodes."""
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (self.shared / "site", *ROOTS))))
        patch.setenv("HIDDEN_FOLDER", str(self.driver))
        patch.setenv("HIDDEN_FOLDER_SEEN", str(self.shared / "seen.txt"))
        patch.chdir(self.shared)

    def nodes_in(self, log: Path) -> list[str]:
        """On which node each epoch was chosen."""
        return [line.split("|")[0] for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    root = tmp_path_factory.mktemp("machines").resolve()
    for name in ("driver", "shared/site"):
        (root / name).mkdir(parents=True)
    (root / "shared/site/sitecustomize.py").write_text(OTHER_DISK)
    machines = Machines(None, root / "driver", root / "shared")
    with pytest.MonkeyPatch.context() as patch:
        machines.live_elsewhere(patch)
        machines.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "_system_config": {
                    "health_check_initial_delay_ms": 0,
                    "health_check_period_ms": 1000,
                    "health_check_failure_threshold": 5,
                },
            },
        )
    machines.add_node()
    machines.add_node(num_gpus=1)
    lay_out(machines.driver)
    yield machines
    ray.shutdown()
    machines.cluster.shutdown()


@pytest.fixture
def machines(started: Machines, monkeypatch: pytest.MonkeyPatch) -> Machines:
    """The cluster, as seen from the driver's folder."""
    monkeypatch.setenv("RAY_ADDRESS", started.cluster.address)
    monkeypatch.chdir(started.driver)
    monkeypatch.syspath_prepend(started.driver / "lib")
    return started


def lay_out(driver: Path) -> None:
    """A user's modules and policies."""
    for path, text in {
        "lib/mine/__init__.py": "",
        "lib/mine/tools.py": "def half(x): return x / 2\n",
        "lib/mine/rules.py": RULES,
        "lib/beside_it.py": "TWICE = 2\n",
        "lib/own_words_task.py": (Path(__file__).parents[1] / "helpers/own.py").read_text(),
    }.items():
        (driver / path).parent.mkdir(parents=True, exist_ok=True)
        (driver / path).write_text(text)
    (driver / "policies").mkdir()
    shutil.copy(POLICIES / "robust.npz", driver / "policies/mine.npz")
    shutil.copy(POLICIES / "ppo.npz", driver / "policies/other.npz")
    np.save(driver / "policies/table.npy", np.array([0.5]))


def numbers(folder: Path) -> dict[str, Any]:
    """By key, all that results say but seconds, commit, and which modules were loaded beside."""
    found = {}
    for result in load_results([folder]):
        content = asdict(result)
        for name in ("seconds", "commit"):
            del content[name]
        del content["history"]["seconds"], content["fingerprint"]["code"]
        found[result.config.key] = content
    return found


def assert_same(folder: Path, undisturbed: Path) -> None:
    """All results of `undisturbed` are in the folder, bit for bit, made by the same code."""
    found, expected = numbers(folder), numbers(undisturbed)
    assert {key: found[key] for key in expected} == expected
    results = {result.config.key: result for result in load_results([folder])}
    for result in load_results([undisturbed]):
        assert result.fingerprint is not None
        assert not differences(results[result.config.key].fingerprint, result.fingerprint)


def clutter(log: Path, epochs: int, seeds: tuple[int, ...] = (0,)) -> list[RunGroup]:
    kwargs = {"train_size": 80, "epochs": epochs, "budget": 0.6, "precision": "fp32"}
    agent = repr(dynprune_agents.make(f"mine.rules:Slow(log={str(log)!r})"))
    return [RunGroup("DynPrune-Clutter-v0", kwargs, agent, (seed,)) for seed in seeds]


def here(groups: list[RunGroup], out: Path, **others: Any) -> Path:
    """The folder of an undisturbed sweep in this process."""
    outcomes = list(run_sweep(groups, dynprune_agents.make, out, device="cpu", **others))
    assert [outcome.error for outcome in outcomes] == [None] * len(groups)
    return out


def test_modules_and_policy_files_reach_machines_with_another_disk_and_results_come_back(
    machines: Machines, tmp_path: Path
) -> None:
    small = {"train_size": 60, "epochs": 4, "budget": 0.5}
    absolute = str(machines.driver / "policies/mine.npz")
    agents = [
        "mine.rules:Halved(table='policies/table.npy')",
        "learned(policy='policies/mine.npz')",
        f"learned(policy={absolute!r})",
        f"random_control(rule={f'learned(policy={absolute!r})'!r})",
        "sb3(policy='./policies/other.npz')",
    ]
    labels = [repr(dynprune_agents.make(agent)) for agent in agents]
    groups = [RunGroup("DynPrune-Digits-v0", small, label, (0, 1)) for label in labels]
    groups += [RunGroup("DynPrune-OwnWords-v0", {"budget": 0.5}, "ucb", (0,))]
    imports = ("own_words_task",)
    out = machines.driver / "travelled"
    outcomes = list(
        run_sweep(groups, dynprune_agents.make, out, jobs=2, backend="ray", imports=imports)
    )
    assert [outcome.error for outcome in outcomes] == [None] * len(groups)
    assert not (machines.shared / "seen.txt").exists()  # nobody has tried the driver's disk
    keys = {config.key for group in groups for config in group.configs()}
    assert {path.stem for path in out.glob("*.json")} == keys
    assert not (out / RUNNING).exists()
    assert_same(out, here(groups, tmp_path / "here", imports=imports))


def test_a_run_whose_node_died_goes_on_elsewhere_from_its_last_state(
    machines: Machines, tmp_path: Path
) -> None:
    epochs, log = 30, machines.shared / "node.txt"
    groups = clutter(log, epochs)
    out = machines.driver / "node"
    killed: list[str] = []

    def kill() -> None:
        while not list(out.glob(f"{RUNNING}/*.state")) or log.read_text().count("\n") < 6:
            time.sleep(0.05)
        (node,) = set(machines.nodes_in(log))
        victim = next(each for each in machines.cluster.worker_nodes if each.node_id == node)
        killed.append(node)
        machines.cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = list(
        run_sweep(groups, dynprune_agents.make, out, backend="ray", save_every=0, device="cpu")
    )
    killer.join()
    machines.add_node()
    assert [outcome.error for outcome in outcomes] == [None]
    nodes = machines.nodes_in(log)
    first = nodes.count(killed[0])
    assert 6 <= first < epochs
    assert set(nodes[:first]) == {killed[0]} and killed[0] not in nodes[first:]
    assert len(set(nodes)) == 2
    # The epoch under way is lost, and perhaps one whose state was not at the driver's yet.
    assert epochs <= len(nodes) <= epochs + 8
    assert not (out / RUNNING).exists()
    assert_same(out, here(groups, tmp_path / "here"))


def test_ctrl_c_ends_the_epochs_under_way_and_the_same_command_goes_on(
    machines: Machines, tmp_path: Path
) -> None:
    epochs, log = 30, machines.shared / "stopped.txt"
    groups = clutter(log, epochs, seeds=(0, 1))
    out = machines.driver / "stopped"
    kwargs = {key: value for key, value in groups[0].env_kwargs.items() if key != "budget"}
    command = [sys.executable, "-c", "from dynprune_agents.cli.app import main; main()", "bench"]
    command += ["--env", groups[0].env, "--agents", groups[0].agent, "--budgets", "0.6"]
    command += ["--seeds", "2", "--jobs", "2", "--backend", "ray", "--device", "cpu"]
    command += ["--save-every", "1e9", "--out", out.name]
    command += [w for key, value in kwargs.items() for w in ("--env-kwargs", f"{key}={value}")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["lib", *map(str, ROOTS)])}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 8):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    done = log.read_text().count("\n")
    assert 8 <= done < 2 * epochs
    states = list((out / RUNNING).iterdir())
    assert 1 <= len(states) <= 2
    assert {path.suffix for path in states} == {".state"}

    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert log.read_text().count("\n") == 2 * epochs  # nothing was played twice
    assert not (out / RUNNING).exists()
    assert not load_failures([out])
    assert_same(out, here(groups, tmp_path / "here"))


def test_runs_get_the_gpus_that_are_asked_for(machines: Machines) -> None:
    log = machines.shared / "gpus.txt"
    groups = clutter(log, 2, seeds=(0, 1))
    out = machines.driver / "gpus"
    outcomes = list(
        run_sweep(groups, dynprune_agents.make, out, jobs=2, backend="ray", gpus=0.5, device="cpu")
    )
    assert [outcome.error for outcome in outcomes] == [None, None]
    places = {tuple(line.split("|")[:2]) for line in log.read_text().splitlines()}
    ((_, gpu),) = places  # both on the same node
    assert gpu == "0"
    with pytest.raises(
        ValueError, match="asks for more than any machine of the Ray cluster has: 1"
    ):
        list(run_sweep(groups, dynprune_agents.make, out / "2", backend="ray", gpus=2))


def test_an_agent_that_is_nowhere_is_a_failed_run(machines: Machines) -> None:
    groups = [RunGroup("DynPrune-Digits-v0", {"budget": 0.5}, "nowhere_at_all:Agent", (0,))]
    (outcome,) = run_sweep(groups, dynprune_agents.make, machines.driver / "x", backend="ray")
    assert outcome.error is not None
    assert outcome.error.startswith("ValueError: cannot load the agent 'nowhere_at_all:Agent'")
