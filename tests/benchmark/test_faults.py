"""What goes wrong in a sweep is output, recorded and survived; the exit code tells."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import SMALL, call, call_in_vain, refuse, results

from dynprune_env.benchmark.results import Failure, RunConfig, load_failures

FAULTY = """
import os
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from dynprune_agents import Agent

class Faulty(Agent):
    def select(self, observation):
        if self.epoch(observation) == 1 and not Path(__file__).with_name("mended").exists():
            return self.fail(observation)
        return np.ones(observation["loss"].shape, dtype=bool)

@dataclass
class Raises(Faulty):
    def fail(self, observation):
        raise RuntimeError("a [mistake] in the rule")

@dataclass
class WrongMask(Faulty):
    def fail(self, observation):
        return np.ones(7, dtype=bool)

@dataclass
class Exits(Faulty):
    def fail(self, observation):
        os._exit(3)

@dataclass
class ExitsOnce(Faulty):
    def fail(self, observation):
        tried = Path(__file__).with_name("tried")
        if not tried.exists():
            tried.touch()
            os._exit(3)
        return np.ones(observation["loss"].shape, dtype=bool)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with agents that do not work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    return tmp_path


def bench(*agents: str, jobs: int = 1) -> list[str]:
    named = [word for agent in agents for word in ("--agents", agent)]
    return ["bench", *SMALL, "--budgets", "0.9", "--seeds", "2", "--jobs", str(jobs), *named]


@pytest.mark.slow
def test_agents_that_raise_answer_wrongly_or_kill_their_process_stop_nobody(
    folder: Path,
) -> None:
    names = ("faulty:Raises", "faulty:WrongMask", "faulty:Exits")
    command = bench("ucb", *names, "dynamic_random", jobs=2)
    text = call_in_vain(*command)
    assert "failed: faulty:Raises at budget 0.9: RuntimeError: a [mistake] in the rule" in text
    assert "failed: faulty:WrongMask at budget 0.9: ValueError" in text
    assert "failed: faulty:Exits at budget 0.9: WorkerDied: twice." in text
    assert "EXIT(3)" in text
    assert "3 of 6 groups of runs failed" in text
    played = {run.config.agent for run in results()}
    assert played == {"ucb", "dynamic_random", "full_data"}

    failures = load_failures([Path("results")])
    assert sorted({failure.config.agent for failure in failures}) == sorted(names)
    assert len(failures) == 6
    raised = next(f for f in failures if f.config.agent == "faulty:Raises")
    assert (raised.error, raised.message) == ("RuntimeError", "a [mistake] in the rule")
    assert raised.traceback.rstrip().endswith("RuntimeError: a [mistake] in the rule")
    page = Path("results/report.html").read_text()
    assert "6 runs failed" in page
    assert "a [mistake] in the rule" in page
    assert "faulty:Exits" in Path("results/table.md").read_text()

    (folder / "mended").touch()  # what failed is tried again, and nothing else
    before = {run.config.key: Path(f"results/{run.config.key}.json").stat() for run in results()}
    call(*command)
    assert len(results()) == 12
    assert not load_failures([Path("results")])
    assert "Failed runs" not in Path("results/report.html").read_text()
    after = {key: Path(f"results/{key}.json").stat() for key in before}
    assert {k: s.st_mtime_ns for k, s in after.items()} == {
        k: s.st_mtime_ns for k, s in before.items()
    }


@pytest.mark.slow
def test_a_worker_that_dies_once_is_given_a_second_try(folder: Path) -> None:
    call(*bench("faulty:ExitsOnce", jobs=2))
    assert (folder / "tried").exists()
    assert len(results()) == 4
    assert not load_failures([Path("results")])


def test_a_torn_result_is_played_again_and_a_foreign_file_is_left_out() -> None:
    call(*bench("ucb"))
    table = Path("results/table.csv").read_text()
    torn = sorted(Path("results").glob("*.json"))[0]
    torn.write_text(torn.read_text()[:200])
    Path("results/other.json").write_text('{"a": 1}')
    for command in (["report", "results"], bench("ucb"), ["report", "results"]):
        text = call_in_vain(*command)
        assert "left out: results/other.json is not a dynprune result file" in text
        assert "ucb" in Path("results/table.md").read_text()
    Path("results/other.json").unlink()
    call("report", "results")
    assert Path("results/table.csv").read_text().count("\n") == table.count("\n")
    assert len(results()) == 4


def test_a_damaged_file_stops_no_command_that_reads_results() -> None:
    call(*bench("ucb"))
    Path("results/other.json").write_text('{"a": 1}')
    for command, done in (
        (["report", "results"], "Page: results/report.html"),
        (["kept", "results"], "Picture: results/kept.png"),
        (["validate", "results", "--runs", "1", "--device", "cpu"], "the same, bit for bit"),
    ):
        text = call_in_vain(*command)
        assert text.startswith("left out: results/other.json is not a dynprune result file")
        assert done in text


def test_a_report_says_how_many_runs_two_folders_have_with_other_numbers() -> None:
    call(*bench("ucb"))
    shutil.copytree("results", "others")
    assert "twice" not in call("report", "results", "others").output
    for path in Path("others").glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "test_accuracy": 0.5}))
    text = call("report", "results", "others").output
    assert text.startswith("4 runs are there twice, with different numbers: those read first")


@pytest.mark.slow
def test_where_nothing_can_be_written_the_runs_fail_with_a_clear_message(folder: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # bytes a file may have

    code = "from dynprune_agents.cli.app import main; main()"
    command = [sys.executable, "-c", code, *bench("ucb")]
    done = subprocess.run(command, preexec_fn=no_room, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("OSError: [Errno 27] File too large") == 2
    assert "2 of 2 groups of runs failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in Path("results").rglob("*") if path.is_file()] == []
    call(*bench("ucb"))
    assert len(results()) == 4


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, which takes no folder")
def test_a_folder_that_cannot_be_made_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = refuse(*bench("ucb"), "--out", "/proc/results", capsys=capsys)
    error = [line for line in err.splitlines() if line]
    assert len(error) == 1
    assert error[0].startswith("error: ")
    assert "/proc" in error[0]


def test_a_failure_is_forgotten_once_there_is_a_result(tmp_path: Path) -> None:
    config = RunConfig("DynPrune-Digits-v0", {"budget": 0.5}, "ucb", 0)
    Failure(config, "RuntimeError", "why", "where").save(tmp_path)
    (tmp_path / "failed" / "foreign.json").write_text("[]")
    assert load_failures([tmp_path]) == [Failure(config, "RuntimeError", "why", "where")]
    (tmp_path / f"{config.key}.json").write_text(json.dumps({}))
    assert load_failures([tmp_path]) == []
