"""What would fail in the end is refused before anything is played."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers.command import SMALL, refuse

from dynprune_agents.cli.options import check_folder
from dynprune_env.benchmark import episodes, runner

NO_DATA = ["--env", "DynPrune-CIFAR10-v0", "--data-dir", "none", "--env-kwargs", "download=False"]
COMMANDS = {"run": ["--agent"], "bench": ["--jobs", "1", "--agents", "ucb", "--agents"]}
no_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder that takes no file")


@pytest.fixture(autouse=True)
def played(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was played: nothing may be."""
    found: list[Any] = []
    for module in (episodes, runner):
        monkeypatch.setattr(module, "run_episodes", lambda *a, **k: found.append(a))
    return found


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["ucb", "--out", "a_file/in/it"], "--out a_file/in/it cannot be written to"),
        pytest.param(["ucb", "--out", "/proc/x"], "/proc/x cannot be written to", marks=no_proc),
        (["learned(policy='no.npz')"], "there is no policy file 'no.npz'"),
        (["sb3(policy='no.npz')"], "there is no policy file 'no.npz'"),
        (["learned(policy='a_file')"], "a_file is not a policy"),
        (["random_control(rule=\"learned(policy='no')\")"], "there is no policy file 'no'"),
        (["ucb", "--seed", "-1"], "seeds begin at 0 or later"),
        (["ucb", "--seed", str(1 << 70)], "seeds begin at 0 or later, and by 2^62"),
        (["ucb", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["ucb", *NO_DATA], "CIFAR10 was not found in none"),
    ],
)
def test_nothing_is_played_before_all_is_checked(
    command: str,
    given: list[str],
    expected: str,
    played: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("a_file").touch()
    _, err = refuse(command, *SMALL[:4], *COMMANDS[command], *given, capsys=capsys)
    assert expected in err
    assert not played
    assert sorted(os.listdir()) == ["a_file"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--out", "."], "--out . is a folder: name a file in it"),
        (["--out", "a_file/x.npz"], "cannot be written to"),
        (["--out", "cautious"], "cautious is the name of a shipped policy: --out cautious.npz"),
        (["--tensorboard", "a_file"], "--tensorboard a_file cannot be written to"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--start", "none"], "there is no policy file 'none'"),
        (["--env", "DynPrune-Digits-v0", *NO_DATA], "CIFAR10 was not found in none"),
    ],
)
def test_nothing_is_trained_before_all_is_checked(
    given: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a_file").touch()
    assert expected in refuse("train", *given, capsys=capsys)[1]
    assert sorted(os.listdir()) == ["a_file"]


def test_a_checked_folder_is_left_as_it_was() -> None:
    check_folder(Path("new/one"))
    assert os.listdir() == []
    Path("old").mkdir()
    check_folder(Path("old"))
    assert os.listdir() == ["old"]
    assert os.listdir("old") == []
