"""A result is replayed from its configuration alone, and told from one that was changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import pytest
from helpers.command import BENCH, call
from typer.testing import CliRunner

import dynprune_agents
from dynprune_agents.cli import app as cli
from dynprune_env.benchmark.episodes import run_episodes
from dynprune_env.benchmark.replay import Verdict, validate
from dynprune_env.benchmark.results import Result, load_results
from dynprune_env.common import provenance

SMALL: dict[str, Any] = {"train_size": 60, "epochs": 3, "budget": 0.5}


@pytest.fixture(scope="module")
def played() -> list[Result]:
    agent = dynprune_agents.make("ucb")
    return run_episodes("DynPrune-Digits-v0", agent, (2, 5, 7), env_kwargs=SMALL, device="cpu")


def check(*results: Result) -> list[Verdict]:
    return list(validate(results, dynprune_agents.make, device="cpu"))


def test_a_run_made_in_company_is_the_same_bit_for_bit(played: list[Result]) -> None:
    verdicts = check(played[2], played[0])
    assert [verdict.result.config.seed for verdict in verdicts] == [7, 2]
    assert all(verdict.caveats == () for verdict in verdicts)
    assert all(verdict.identical and verdict.reproduced for verdict in verdicts)


def test_the_last_digit_of_one_number_is_enough_to_fail(played: list[Result]) -> None:
    history = {**played[0].history, "reward": [*played[0].history["reward"]]}
    history["reward"][1] += 1e-12
    for changed in (
        replace(played[0], history=history),
        replace(played[0], test_loss=played[0].test_loss * (1 + 1e-15)),
        replace(played[0], selections=played[1].selections),
    ):
        (verdict,) = check(changed)
        assert not verdict.identical
        assert not verdict.reproduced


@pytest.mark.parametrize(
    ("change", "excuse"),
    [
        ({"machine": "another"}, "machine another"),
        ({"machine": None}, "machine unknown"),
        ({"device": "NVIDIA H100"}, "device NVIDIA H100"),
        ({"versions": {}}, "torch unknown"),
        ({"replica_seeds": None}, "unknown seeds on the replica axis"),
    ],
)
def test_elsewhere_a_tolerance_applies(
    change: dict[str, Any], excuse: str, played: list[Result]
) -> None:
    near = replace(played[0], test_accuracy=played[0].test_accuracy + 0.015, **change)
    far = replace(played[0], test_accuracy=played[0].test_accuracy + 0.03, **change)
    saved = replace(played[0], saved=played[0].saved + 0.03, **change)
    for result, reproduced in ((near, True), (far, False), (saved, False)):
        (verdict,) = check(result)
        assert excuse in verdict.caveats
        assert verdict.reproduced == reproduced


def test_a_result_of_the_first_schema_is_read_and_replayed(
    played: list[Result], tmp_path: Path
) -> None:
    path = played[0].save(tmp_path)
    content = json.loads(path.read_text())
    assert content["schema"] == 4
    for name in ("commit", "machine", "replica_seeds", "fingerprint"):
        del content[name]
    path.write_text(json.dumps({**content, "schema": 1}))
    (old,) = load_results([tmp_path])
    assert (old.commit, old.machine, old.replica_seeds) == (None, None, None)
    assert old.config.key == played[0].config.key
    (verdict,) = check(old)
    assert verdict.caveats
    assert verdict.reproduced


def test_a_result_of_the_second_schema_knows_its_replica_seeds_as_company(
    played: list[Result], tmp_path: Path
) -> None:
    path = played[0].save(tmp_path)
    content = json.loads(path.read_text())
    content["company"] = content.pop("replica_seeds")
    path.write_text(json.dumps({**content, "schema": 2}))
    assert list(load_results([tmp_path])) == [played[0]]


# -- the command -------------------------------------------------------------------------------


def test_the_command_says_which_runs_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dynprune_agents.cli.terminal.console._width", 160)
    call(*BENCH)
    text = call("validate", "results", "--runs", "9", "--device", "cpu").output
    assert text.count("the same, bit for bit") == 4
    path = sorted(Path("results").glob("*.json"))[0]
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "test_accuracy": content["test_accuracy"] + 0.1}))
    command = ["validate", "results", "--key", path.stem, "--device", "cpu"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 1
    assert "-10.00 points, NOT reproduced (the same machine and versions)" in result.output
    assert "1 of 1 runs did not reproduce" in result.output
    result = CliRunner().invoke(cli.app, ["validate", "results", "--key", "none"])
    assert "there is no none.json in results" in str(result.exception)


BROKEN = """
from dynprune_agents import Agent
class Broken(Agent):
    def select(self, observation):
        return observation["loss"] >= 0
"""


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with good results, and one of an agent of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("dynprune_agents.cli.terminal.console._width", 400)
    Path("broken.py").write_text(BROKEN)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    call(*BENCH)
    call("run", *BENCH[1:7], "--agent", "broken:Broken")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda: Path("broken.py").unlink(),
            "could not be played: cannot load the agent 'broken:Broken': No module",
        ),
        (
            lambda: Path("broken.py").write_text(BROKEN.replace("observation[", "mistake[")),
            "could not be played: NameError: name 'mistake' is not defined",
        ),
    ],
    ids=["gone", "raises"],
)
def test_a_run_that_cannot_be_played_leaves_the_verdicts_on_the_others(
    change: Callable[[], Any], why: str, mixed: Path
) -> None:
    change()
    sys.modules.pop("broken")
    invalidate_caches()
    command = ["validate", "results", "--runs", "9", "--trust", "--device", "cpu"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 1
    assert result.output.count("the same, bit for bit") == 4
    assert why in result.output
    assert "1 of 5 runs could not be played" in result.output
    (own,) = [each for each in load_results([Path("results")]) if "broken" in each.config.agent]
    with pytest.raises((ValueError, NameError)):  # unless one asks to be told
        check(own)


def test_a_file_that_is_no_result_leaves_the_verdicts_on_the_others(mixed: Path) -> None:
    Path("results/other.json").write_text("{}")
    command = ["validate", "results", "--runs", "9", "--trust", "--device", "cpu"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 1
    assert result.output.count("the same, bit for bit") == 5
    assert "left out: results/other.json is not a dynprune result file" in result.output


@pytest.mark.parametrize("trust", [[], ["--trust"]])
def test_how_to_validate_runs_of_a_task_that_is_not_registered_is_said(
    trust: list[str], played: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynprune_agents.cli.terminal.console._width", 400)
    unknown = replace(played[0], config=replace(played[0].config, env="DynPrune-Gone-v0"))
    for result in (unknown, played[1]):
        result.save(tmp_path)
    command = ["validate", str(tmp_path), "--device", "cpu", *trust]
    said = " ".join(CliRunner().invoke(cli.app, command).output.split())
    assert "`dynprune --import MODULE validate ...` plays such" in said
    assert "--trust plays such" not in said
    assert ("could not be played: no environment is called" in said) == bool(trust)
    assert said.count("the same, bit for bit") == 1


# -- where it comes from -----------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "package").mkdir(parents=True)
    (root / "package" / "file.py").write_text("1")
    try:
        git(root, "init", "--quiet")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git is not installed")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "one")
    return root


def test_the_commit_is_read_from_a_checkout_as_git_says_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = git(checkout, "rev-parse", "HEAD")
    assert provenance._head(checkout) == expected
    git(checkout, "worktree", "add", "--quiet", "../other")
    assert provenance._head(checkout.parent / "other") == expected
    git(checkout, "pack-refs", "--all")
    assert provenance._head(checkout) == expected
    git(checkout, "checkout", "--quiet", "--detach")
    assert provenance._head(checkout) == expected
    assert provenance._head(checkout / "package") is None

    monkeypatch.setattr(provenance, "PACKAGE", checkout / "package")
    assert provenance.commit.__wrapped__() == expected
    (checkout / "package" / "file.py").write_text("2")
    assert provenance.commit.__wrapped__() == f"{expected}+"
    monkeypatch.setenv("PATH", "")  # without git its files still say where they stand
    assert provenance.commit.__wrapped__() == expected
