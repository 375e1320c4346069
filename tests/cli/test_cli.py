"""The dynprune command does what its help says, and a mistake is answered in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from helpers.command import BENCH, SMALL, call, call_in_vain, refuse, results
from typer.testing import CliRunner

import dynprune_agents
from dynprune_agents.cli import app as cli
from dynprune_agents.learning.training import Curve
from dynprune_env import TASK_NAMES
from dynprune_env.benchmark import runner as execution
from dynprune_env.tasks import registry

COMMANDS = [command.name or command.callback.__name__ for command in cli.app.registered_commands]

OWN = '''
from dataclasses import dataclass
import numpy as np
from dynprune_agents import Agent

@dataclass
class Mine(Agent):
    """Keeps everything, or fails."""
    fails: bool = False

    def select(self, observation):
        if self.fails:
            raise RuntimeError("a [mistake] in the rule")
        return np.ones(observation["loss"].shape, dtype=bool)
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a terminal of known width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


# -- what there is -----------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    text = call("--help").output
    assert {"envs", "agents", "run", "bench", "report"} <= set(COMMANDS)
    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_each_of_its_options(command: str) -> None:
    text = call(command, "--help").output
    assert f"Usage: {cli.app.info.name or 'root'} {command}" in text
    (found,) = (c for c in cli.app.registered_commands if command in (c.name, c.callback.__name__))
    assert found.callback.__doc__.splitlines()[0].split(",")[0].rstrip(".:") in text


@pytest.mark.parametrize("command", ["run", "bench"])
def test_options_mean_the_same_in_every_command(command: str) -> None:
    text = call(command, "--help").output
    shared = ["--env", "--env-kwargs", "--label-noise", "--seeds", "--seed", "--out", "--device"]
    own = {"run": ["--agent", "--budget"], "bench": ["--agents", "--budgets", "--jobs"]}
    assert all(f"{option} " in text for option in [*shared, *own[command]])


def test_envs_lists_every_environment() -> None:
    text = call("envs").output
    assert all(f"DynPrune-{task}-v0" in text for task in TASK_NAMES)
    assert "45,000" in text


def test_agents_lists_every_agent_with_its_class_source_and_parameters() -> None:
    text = call("agents").output
    assert all(f" {name} " in text for name in dynprune_agents.names())
    assert "epsilon=0.1" in text
    for each in ("baseline", "dynamic", "weighted", "static", "bandit", "learned"):
        assert f"\n{each}: " in f"\n{text}"
    words = " ".join(text.split())
    assert "arXiv:2303.04947" in words
    assert "the usual baseline" in words


# -- run ---------------------------------------------------------------------------------------


def test_run_plays_each_seed_and_keeps_a_file_of_each() -> None:
    options = ["--agent", "ucb(c=2.0)", "--budget", "0.4", "--seeds", "2", "--seed", "5"]
    text = call("run", *SMALL, *options, "--label-noise", "0.2").output
    configs = [result.config for result in results()]
    assert sorted(config.seed for config in configs) == [5, 6]
    assert {(config.env, config.agent) for config in configs} == {
        ("DynPrune-Digits-v0", "ucb(c=2.0)")
    }
    expected = {"train_size": 60, "epochs": 3, "budget": 0.4, "label_noise": 0.2}
    assert [config.env_kwargs for config in configs] == [expected] * 2
    assert "ucb(c=2.0)" in text
    assert "results" in text


def test_a_run_at_budget_one_is_one_run() -> None:
    call("run", *SMALL, "--agent", "static_random", "--budget", "1")
    assert [result.config.agent for result in results()] == ["static_random"]


def test_run_writes_where_it_is_told_and_takes_strings() -> None:
    call("run", *SMALL, "--env-kwargs", "model=mlp(width=4)", "--out", "there/in")
    (result,) = results(Path("there/in"))
    assert result.config.env_kwargs["model"] == "mlp(width=4)"
    assert not Path("results").exists()


@pytest.mark.parametrize("module", ["dynprune_env", "own_table"])
@pytest.mark.parametrize("command", ["run", "bench"])
def test_an_environment_may_be_named_with_the_module_that_registers_it(
    command: str, module: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    monkeypatch.setattr(registry, "_OWN", dict(registry._OWN))
    (folder / "own_table.py").write_text(TASK)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own_table", raising=False)
    known = "DynPrune-Digits-v0" if module == "dynprune_env" else "DynPrune-OwnTable-v0"
    own = ["--agent", "ucb"] if command == "run" else BENCH[7:]
    arguments = [command, *SMALL, *own]
    call(*arguments, "--env", f"{module}:{known}")
    assert {result.config.env for result in results()} == {known}
    before = {path: path.read_bytes() for path in Path("results").glob("*.json")}
    call(*arguments, "--env", known)  # the same task, which is known by now
    after = {path: path.read_bytes() for path in Path("results").glob("*.json")}
    assert set(after) == set(before)
    assert after == before or command == "run"  # which always plays
    gym.registry.pop("DynPrune-OwnTable-v0", None)


TASK = """
import numpy as np
from dynprune_env import Recipe, own_task, register_task

def make():
    x, y = np.random.default_rng(0).normal(size=(160, 4)).astype("f4"), np.arange(160) % 2
    return own_task((x[:120], y[:120]), (x[120:], y[120:]), "mlp(width=8)", Recipe(3, 16, 0.1))

register_task("OwnTable", make)
"""
STOPPING = """
import signal
from pathlib import Path
import numpy as np
from dynprune_agents import Agent

class Stopped(Agent):
    def select(self, observation):
        calls = len(Path("calls").read_text()) + 1
        Path("calls").write_text("x" * calls)
        if str(calls) == Path("stop_at").read_text():
            signal.raise_signal(signal.SIGINT)
        return np.ones(observation["loss"].shape, dtype=bool)
"""
ONE_BY_ONE = ["--env", "DynPrune-Clutter-v0", "--env-kwargs", "precision=fp32"]


@pytest.mark.parametrize(
    ("options", "stop_at", "said", "more"),
    [
        ([], 2, "the epochs played are saved in results; the same command goes on", []),
        (
            ONE_BY_ONE,
            5,
            "1 of 2 results and the epochs played are saved in results; the same command with "
            "--seed 1 --seeds 1 goes on",
            ["--seed", "1", "--seeds", "1"],
        ),
    ],
    ids=["side by side", "one by one"],
)
def test_a_run_that_is_stopped_says_what_is_kept_and_goes_on_there(
    options: list[str],
    stop_at: int,
    said: str,
    more: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "stopping.py").write_text(STOPPING)
    monkeypatch.syspath_prepend(folder)
    Path("calls").touch()
    Path("stop_at").write_text(str(stop_at))
    command = ["run", *SMALL, "--agent", "stopping:Stopped", "--budget", "1", *options]
    stopped = CliRunner().invoke(cli.app, [*command, "--seeds", "2"])
    assert stopped.exit_code == 130
    assert f"stopped; {said}" in " ".join(stopped.output.split())
    call(*command, *(more or ["--seeds", "2"]))
    # No epoch is played twice: three of both runs side by side, or of one after the other.
    assert len(Path("calls").read_text()) == (6 if options else 3)
    assert sorted(result.config.seed for result in results()) == [0, 1]
    assert not Path("results/running").exists()


# -- bench and report --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("1", "goes on from what is saved in results"),
        ("(each for each in ())", "begins again: nothing was saved"),
    ],
)
def test_a_benchmark_that_is_stopped_says_whether_anything_is_saved(
    held: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset = f"    def reset(self, e):\n        super().reset(e)\n        self.held = {held}\n"
    (folder / "held.py").write_text(STOPPING + reset)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "held", raising=False)
    Path("calls").touch()
    Path("stop_at").write_text("1")
    options = ["--agents", "held:Stopped", "--budgets", "1", "--seeds", "1", "--jobs", "1"]
    stopped = CliRunner().invoke(cli.app, ["bench", *SMALL, *options])
    assert stopped.exit_code == 130
    assert f"stopped; the same command {said}" in " ".join(stopped.output.split())


def test_bench_leaves_results_tables_and_a_picture() -> None:
    text = call(*BENCH).output
    found = results()
    pairs = {(result.config.agent, result.config.budget) for result in found}
    assert pairs == {("ucb", 0.5), ("full_data", 1.0)}
    assert len(found) == 4
    for path in Path("results").glob("*.json"):
        assert json.loads(path.read_text())["schema"]
    assert "| `ucb` |" in Path("results/table.md").read_text()
    assert len(Path("results/table.csv").read_text().splitlines()) == 3
    assert Path("results/accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "ucb" in text
    assert "full_data" in text


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_every_command_that_draws_results_draws_svg_and_pdf_as_well(
    kind: str, start: bytes
) -> None:
    call(*BENCH, "--format", kind)
    call("kept", "results", "--format", kind)
    call("report", "results", "--out", "again", "--format", kind)
    drawn = [f"results/accuracy.{kind}", f"results/kept.{kind}", f"again/accuracy.{kind}"]
    assert all(Path(name).read_bytes().startswith(start) for name in drawn)
    assert not list(Path(".").rglob("*.png"))


def test_a_second_bench_repeats_nothing_and_shows_the_same_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call(*BENCH)
    before = {path: path.read_bytes() for path in Path("results").iterdir()}
    played: list[Any] = []
    play = execution.run_episodes
    monkeypatch.setattr(
        execution, "run_episodes", lambda *a, **k: played.append(a) or play(*a, **k)
    )
    call(*BENCH)
    assert not played
    assert {path: path.read_bytes() for path in Path("results").iterdir()} == before
    call(*BENCH, "--agents", "static_random")
    assert [repr(arguments[1]) for arguments in played] == ["static_random"]


def test_a_number_spelled_otherwise_is_not_played_again() -> None:
    call(*BENCH, "--env-kwargs", "label_noise=0")
    before = sorted(Path("results").glob("*.json"))
    text = call(*BENCH, "--label-noise", "0").output
    assert "label_noise=0.0" in text
    assert "done" not in text
    assert sorted(Path("results").glob("*.json")) == before


def test_bench_shows_what_it_was_asked_for_and_nothing_that_lay_there() -> None:
    call(*BENCH)
    call("bench", *SMALL, "--agents", "ucb1", "--budgets", "0.25", "--seeds", "1", "--jobs", "1")
    table = Path("results/table.md").read_text()
    assert "`ucb1`" in table
    assert "`ucb`" not in table
    assert len(results()) == 5


def test_each_label_noise_makes_tasks_of_its_own() -> None:
    call(*BENCH, "--label-noise", "0", "--label-noise", "0.4")
    variants = [result.config.env_kwargs["label_noise"] for result in results()]
    assert {each: variants.count(each) for each in variants} == {0.0: 4, 0.4: 4}


def test_a_report_without_a_part_removes_that_of_an_earlier_one_and_says_why() -> None:
    call(*BENCH, "--agents", "ucb1")
    call("report", "results", "--reference", "ucb", "--format", "svg")
    optional = ("overall.csv", "overall.png", "overall.svg", "differences.csv")
    assert all(Path("results", name).exists() for name in optional)
    Path("results/overall.txt").touch()
    other = ["--agents", "exp3", "--budgets", "0.25", "--seeds", "1", "--jobs", "1"]
    call("bench", *SMALL, *other)
    for path in [p for p in Path("results").glob("*.json") if '"ucb1"' in p.read_text()]:
        path.unlink()
    said = " ".join(call("report", "results").output.split())
    assert not any(Path("results", name).exists() for name in optional)
    assert Path("results/overall.txt").exists()
    assert Path("results/accuracy.svg").exists()
    why = "Nothing is compared over all 2 tasks (environment, variant, budget): no two agents "
    why += "played each of them. Left out, as they lack a task: exp3, ucb."
    texts = [said, *(Path("results", name).read_text() for name in ("table.md", "report.html"))]
    assert all(why in text for text in texts)


def test_a_failing_agent_is_named_and_the_others_are_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "failing.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    arguments = [*BENCH, "--agents", "failing:Mine(fails=True)"]
    text = call_in_vain(*arguments)
    assert "failing:Mine(fails=True) at budget 0.5" in text
    assert "RuntimeError: a [mistake] in the rule" in text
    assert "1 of 3 groups of runs failed" in text
    assert "`ucb`" in Path("results/table.md").read_text()


def test_report_makes_the_same_tables_again_from_the_files_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call(*BENCH)
    made = {name: Path("results", name).read_bytes() for name in ("table.md", "table.csv")}
    for name in (*made, "accuracy.png"):
        Path("results", name).unlink()
    monkeypatch.setattr(execution, "run_episodes", None)
    assert "ucb" in call("report", "results").output
    assert {name: Path("results", name).read_bytes() for name in made} == made
    assert Path("results/accuracy.png").exists()


def test_kept_says_what_was_kept_when() -> None:
    call(*BENCH)
    text = call("kept", "results").output
    assert all(word in text for word in ("ucb", "always", "never", "turnover"))
    assert Path("results/kept.png").read_bytes().startswith(b"\x89PNG")


# -- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("run --agent uct", "Did you mean 'ucb'?"),
        ("run --agent ucb(x=1)", "it has period, warmup, c, a"),
        ("run --agent ucb(c=__import__('os'))", "not a Python literal"),
        ("run --agent ucb(c='high')", "high"),
        ("run --agent foo[bar]", "foo[bar]"),
        ("run --env Digits", "Digits"),
        ("run --env CartPole-v1", "CartPole-v1"),
        ("run --env dynprune_env:DynPrune-Digit-v0", "no environment is called 'dynprune_env:Dyn"),
        ("run --env nowhere:DynPrune-Digits-v0", "cannot import 'nowhere'"),
        ("run --env .x:DynPrune-Digits-v0", "cannot import '.x': expected the full name"),
        ("bench --agents ucb --env a:b:DynPrune-Digits-v0", "cannot import 'a:b'"),
        ("run --budget 2", "budget is a share of a full run in (0, 1], got 2"),
        ("run --env-kwargs train_size", "--env-kwargs takes KEY=VALUE, got 'train_size'"),
        ("run --env-kwargs budget=1", "--env-kwargs cannot set budget"),
        ("run --env-kwargs nothing=1", "'nothing'"),
        ("run --env-kwargs epochs=many", "many"),
        ("run --env-kwargs label_noise=2", "label_noise is a share in [0, 1], got 2"),
        ("run --env-kwargs train_size=5000", "train_size must be in [1, 1000] for Digits (300"),
        ("run --env-kwargs reward=money", "no reward is called 'money'; there are val_loss"),
        ("run --env-kwargs model=mlp(size=1)", "it has width, depth"),
        ("run --label-noise 2", "label_noise is a share in [0, 1]"),
        ("run --device abacus", "device 'abacus' cannot be used"),
        ("run --device gpu", "'mps' or 'xpu'. Did you mean 'cuda'?"),
        ("run --env DynPrune-Mine-v0", "or of a command --import my_module before it"),
        ("run --seeds 2 --label-noise 0 --label-noise 0.4", "--label-noise takes one value, got 2"),
        ("bench --seeds 2 --agents ucb --seeds=3", "--seeds takes one value, got 2"),
        ("run --out a_file", "a_file"),
        (
            "run --env DynPrune-CIFAR10-v0 --data-dir none --env-kwargs download=False",
            "CIFAR10 was",
        ),
        ("bench --agents uct", "Did you mean 'ucb'?"),
        ("bench --agents ucb --budgets 2", "budget is a share of a full run in (0, 1], got 2"),
        ("bench --agents ucb --env CartPole-v1", "CartPole-v1"),
        ("bench --agents ucb --out a_file", "a_file"),
        ("report nowhere", "there is no folder nowhere"),
        ("report [/nowhere]", "there is no folder [/nowhere]"),
        ("report empty", "no result files in empty"),
        ("report foreign", "other.json is not a dynprune result file"),
        ("kept empty", "no result"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    arguments: str, expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a_file").touch()
    Path("empty").mkdir()
    Path("foreign").mkdir()
    Path("foreign/other.json").write_text("{}")
    command, *rest = arguments.split(" ")
    small = [] if command in ("report", "kept") else SMALL[:4]
    jobs = ["--jobs", "1"] if command == "bench" else []
    out, err = refuse(command, *small, *jobs, *rest, capsys=capsys)
    lines = [line for line in f"{out}{err}".splitlines() if "% of" not in line]  # no progress bar
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not Path("results").exists()


def test_mistakes_go_to_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = refuse("report", "nowhere", capsys=capsys)
    assert out == ""
    assert "nowhere" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["rnu"], "rnu"), (["run", "--seed", "x"], "--seed"), (["report"], "folders")],
)
def test_a_misspelt_command_or_option_is_named(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert named in result.output.lower()


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed console script, in a process of its own."""
    command = Path(sys.executable).with_name("dynprune")
    return subprocess.run([command, *arguments], capture_output=True, text=True, timeout=120)


def test_the_console_script_ends_with_the_line_and_a_failure() -> None:
    done = script("run", "--agent", "uct")
    assert done.returncode == 2
    assert (done.stdout + done.stderr).startswith("error: no agent is called 'uct'")
    assert (done.stdout + done.stderr).count("\n") == 1


def test_an_agent_in_the_current_folder_can_be_named(folder: Path) -> None:
    (folder / "at_home.py").write_text(OWN)
    done = script("run", *SMALL, "--agent", "at_home:Mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [result.config.agent for result in results()] == ["at_home:Mine"]


# -- train -------------------------------------------------------------------------------------


def test_a_training_is_known_by_what_decides_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Any] = []

    def watched(trainer: Any, plan: Any, show: Any) -> Curve:
        plans.append(plan)
        return Curve()

    monkeypatch.setattr("dynprune_agents.learning.training.train", watched)
    same = ["train", "--vary", "epochs=[2, 3]", "--set", "sigma=0.1", "--device", "cpu"]
    call(*same)
    call(*same, "--out", "other.zip", "--jobs", "2", "--checkpoint-every", "1", "--data-dir", "x")
    call(*same, "--budgets", "0.2")
    first, second, third = (plan.arguments for plan in plans)
    assert first == second
    assert {name for name in first if first[name] != third[name]} == {"budgets"}
    assert first["vary"] == {"epochs": [2, 3]}
    assert first["settings"] == {"sigma": 0.1}
    json.dumps(first)  # a checkpoint holds it
