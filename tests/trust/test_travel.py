"""What travels to another machine, packed and unpacked without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import dynprune_agents
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.packing import pack
from dynprune_env.common import luggage as travel
from dynprune_env.common import ray_cluster
from dynprune_env.common.luggage import Luggage

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


def test_a_module_in_front_of_an_environments_id_travels(home: Path) -> None:
    group = RunGroup("stranger:DynPrune-Digits-v0", SMALL, "ucb", (0,))
    found = pack([group], dynprune_agents.make)
    assert sorted(found.modules) == ["stranger.py"]
    assert found.required == ("stranger",)


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
