"""What lies in others' folders names no code that runs here, unless one trusts it."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import BENCH, SMALL, call, call_in_vain, refuse
from helpers.episodes import make_vector
from stable_baselines3 import PPO

import dynprune_agents
from benchmarks.committed_runs import read_runs
from benchmarks.leaderboard import by_agent, standings
from dynprune_agents.learning import DynPruneVecEnv, save_policy
from dynprune_agents.policies._files import FOLDER, shipped_policies
from dynprune_agents.policies.sb3 import SB3
from dynprune_env.benchmark.results import load_results

SHORT = {"observation": "run", "action": "tilts"}
EVIL = """
from pathlib import Path
Path("ran").touch()
from dynprune_agents import Agent
class X(Agent):
    def select(self, observation):
        return observation["loss"] >= 0
"""


class Payload:
    """Unpickling one leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def model() -> PPO:
    env = DynPruneVecEnv(make_vector(2, "SameStep", **SHORT))
    return PPO("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [4]})


def poisoned(path: Path) -> None:
    """A model of Stable-Baselines3 whose pickles leave a file when they are read."""
    model().save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    data["policy_kwargs"] = {
        ":type:": "dict",
        ":serialized:": base64.b64encode(pickle.dumps(Payload())).decode(),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, "data": json.dumps(data)}.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results of one's own, and a stranger's module and model."""
    made = tmp_path_factory.mktemp("filled")
    call(*BENCH, "--out", str(made / "results"))
    (made / "evilmod.py").write_text(EVIL)
    poisoned(made / "evil.zip")
    return made


@pytest.fixture
def folder(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder anew, as the working directory, from which modules are imported."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evilmod", raising=False)
    return tmp_path


def crafted(folder: Path, **others: Any) -> Path:
    """Another's folder with one result, whose configuration says something else."""
    result = next(each for each in load_results([folder / "results"]) if each.config.budget < 1)
    theirs = folder / "theirs"
    replace(result, config=replace(result.config, **others)).save(theirs)
    return theirs


AGENTS = {
    "evilmod:X": "does not ship",
    "sb3(policy='evil.zip')": "policy 'evil.zip' does not ship",
    "sb3(policy='evil.zip', trust=True)": "asks for trust",
    "sb3(policy='ppo', trust=True)": "asks for trust",
    "sb3(policy='../policies/ppo')": "does not ship",
    "learned(policy='evil.zip')": "policy 'evil.zip' does not ship",
    "pods(rule='evilmod:X')": "evilmod:X does not ship",
    "random_control(rule='pods(rule=\"evilmod:X\")')": "evilmod:X does not ship",
    "random_control(rule=\"sb3(policy='evil.zip', trust=True)\")": "asks for trust",
    "dynprune_agents.dynamic.ucb:UCB": "does not ship",
    "": "cannot be read",
    "ucb(": "cannot be read",
    "ucb(c=" + "(" * 5000: "cannot be read",
}


@pytest.mark.parametrize(("agent", "reason"), AGENTS.items(), ids=range(len(AGENTS)))
def test_validate_runs_no_agent_that_a_strangers_result_names(
    folder: Path, agent: str, reason: str
) -> None:
    said = call_in_vain("validate", str(crafted(folder, agent=agent)))
    assert "left out: 1 result" in said
    assert reason in said
    assert "no run could be checked" in said
    assert not Path("ran").exists()
    assert "evilmod" not in sys.modules


@pytest.mark.parametrize(
    "env",
    [
        "evilmod:DynPrune-X-v0",
        "evilmod:DynPrune-Digits-v0",
        "dynprune_env:evilmod:X-v0",
        "CartPole-v1",
    ],
)
def test_validate_imports_no_module_that_an_environments_id_names(folder: Path, env: str) -> None:
    said = call_in_vain("validate", str(crafted(folder, env=env)))
    assert f"environment {env} does not ship" in said
    assert not Path("ran").exists()


@pytest.mark.parametrize("key", ["data_dir", "device"])
def test_validate_reads_no_data_from_where_a_result_says(folder: Path, key: str) -> None:
    (result, *_) = load_results([folder / "results"])
    kwargs = {**result.config.env_kwargs, key: str(folder)}
    said = call_in_vain("validate", str(crafted(folder, env_kwargs=kwargs)))
    assert f"it sets {key}" in said


def test_with_trust_what_a_result_names_is_played(folder: Path) -> None:
    theirs = crafted(folder, agent="evilmod:X")
    call_in_vain("validate", str(theirs))
    said = call_in_vain("validate", str(theirs), "--trust", "--device", "cpu")
    assert Path("ran").exists()
    assert "did not reproduce" in said


def test_a_result_that_is_left_out_leaves_the_others_to_be_checked(folder: Path) -> None:
    theirs = crafted(folder, agent="evilmod:X")
    done = call("validate", str(theirs), "results", "--runs", "1", "--device", "cpu")
    said = " ".join(done.output.split())
    assert "left out: 1 result" in said
    assert "the same, bit for bit" in said
    assert not Path("ran").exists()


def test_a_run_asked_for_by_its_key_is_left_out_too(folder: Path) -> None:
    theirs = crafted(folder, agent="evilmod:X")
    (path,) = theirs.glob("*.json")
    call_in_vain("validate", str(theirs), "results", "--key", path.stem)
    assert not Path("ran").exists()


@pytest.mark.parametrize("command", ["report", "kept"])
@pytest.mark.parametrize("agent", ["evilmod:X", "sb3(policy='evil.zip', trust=True)"])
def test_report_and_kept_import_and_run_nothing(folder: Path, command: str, agent: str) -> None:
    theirs = crafted(folder, agent=agent, env="evilmod:DynPrune-Digits-v0")
    call(command, str(theirs))
    assert not Path("ran").exists()
    assert "evilmod" not in sys.modules


@pytest.mark.parametrize(
    "text",
    [
        "agents = ['evilmod:X']",
        "agents = ['ucb', \"sb3(policy='evil.zip', trust=True)\"]",
        "envs = ['evilmod:DynPrune-Digits-v0']",
        "envs = ['dynprune_env:evilmod:DynPrune-Digits-v0']",
        "envs = ['DynPrune-Digits-v0', 'evilmod:DynPrune-X-v0']",
        "env_kwargs = { data_dir = '.' }",
    ],
)
def test_a_strangers_sweep_runs_no_code_of_theirs(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("theirs.toml").write_text(text)
    _, said = refuse("bench", "theirs.toml", "--seeds", "1", capsys=capsys)
    assert "--trust" in said
    assert not Path("ran").exists()


def test_a_sweep_may_name_this_package_in_front_of_an_environment(folder: Path) -> None:
    text = (
        "envs = ['dynprune_env:DynPrune-Digits-v0']\nagents = ['ucb']\nbudgets = [0.5]\nseeds = 1"
    )
    Path("theirs.toml").write_text(text)
    call("bench", "theirs.toml", *SMALL, "--jobs", "1", "--out", "more")
    assert {each.config.env for each in load_results([Path("more")])} == {"DynPrune-Digits-v0"}


def test_a_module_that_an_option_names_in_front_of_an_environment_is_imported(folder: Path) -> None:
    call("run", *SMALL, "--env", "evilmod:DynPrune-Digits-v0", "--out", "more")
    assert Path("ran").exists()


def test_committed_runs_import_no_module_that_an_environments_id_names(folder: Path) -> None:
    columns = ("env", "variant", "agent", "budget", "seed", "accuracy", "saved")
    row = ["evilmod:DynPrune-Digits-v0", "", "ucb", 0.5, 0, 0.9, 0.5]
    Path("runs.json").write_text(json.dumps({"columns": columns, "rows": [row]}))
    with pytest.raises(ValueError, match=r"runs\.json .* ids without a module, got 'evilmod:Dyn"):
        standings(by_agent(read_runs(folder)), "short clean")
    assert not Path("ran").exists()


def test_what_the_options_name_are_the_users_own_words(folder: Path) -> None:
    Path("theirs.toml").write_text("agents = ['evilmod:X']\nbudgets = [0.5]\nseeds = 1")
    call(*BENCH, "--agents", "evilmod:X")
    assert Path("ran").exists()
    call("bench", "theirs.toml", *SMALL, "--jobs", "1", "--trust", "--out", "more")
    assert {result.config.agent for result in load_results([Path("more")])} >= {"evilmod:X"}


# -- models of Stable-Baselines3 -----------------------------------------------------------------


def test_a_model_as_stable_baselines_saves_it_is_not_unpickled_without_trust(folder: Path) -> None:
    for agent in (SB3("evil.zip"), dynprune_agents.make("sb3(policy='evil.zip')")):
        with pytest.raises(ValueError, match=r"evil\.zip .* trust=True"):
            agent.env_kwargs  # noqa: B018
    assert not Path("ran").exists()
    with pytest.raises(ValueError, match=r"evil\.zip"):
        SB3("evil.zip", trust=True).env_kwargs  # noqa: B018
    assert Path("ran").exists()


def test_with_trust_a_whole_model_plays_as_its_arrays_do(folder: Path) -> None:
    made = model()
    for name in ("mine.zip", "mine.npz"):
        save_policy(name, made)
    assert PPO.load("mine.zip", device="cpu").n_envs == 2
    seen = np.random.default_rng(0).normal(size=12).astype(np.float32)
    acts = [
        agent._trained().policy.predict(seen, deterministic=True)[0]
        for agent in (SB3("mine.zip", trust=True), SB3("mine.npz"), SB3.of(made, "ppo"))
    ]
    assert np.array_equal(acts[0], acts[1])
    assert np.array_equal(acts[0], acts[2])


def test_no_shipped_policy_holds_a_pickle_and_each_names_its_agent() -> None:
    assert {path.suffix for path in FOLDER.iterdir() if path.is_file()} == {".py", ".md", ".npz"}
    for name in shipped_policies():
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
            assert all(file[key].dtype.kind in "fU" for key in file.files)
    with pytest.raises(ValueError, match=r"play it as sb3\(policy='ppo'\)"):
        dynprune_agents.make("learned(policy='ppo')").env_kwargs  # noqa: B018
    with pytest.raises(ValueError, match=r"play it as learned\(policy='robust'\)"):
        dynprune_agents.make("sb3(policy='robust')").env_kwargs  # noqa: B018


def test_agents_name_their_files_and_their_parts() -> None:
    assert dynprune_agents.make("sb3").files() == [FOLDER / "ppo.npz"]
    assert dynprune_agents.make("learned").files() == [FOLDER / "cautious.npz"]
    wrapper = dynprune_agents.make("random_control(rule=\"learned(policy='robust')\")")
    (part,) = wrapper.parts()
    assert (wrapper.files(), part.files()) == ([], [FOLDER / "robust.npz"])
    assert dynprune_agents.make("ucb").files() == dynprune_agents.make("ucb").parts() == []
    assert SB3.of(model(), "ppo").files() == []
