"""Paths and names are shown as they are: brackets are no markup, and no width breaks a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command import SMALL, call

import dynprune_env
from dynprune_agents.cli import terminal
from dynprune_env.benchmark.sweeps import load_sweep

pytestmark = pytest.mark.usefixtures("here")
NAMES = ["exp[seed]", "exp[/new]", "[red]x[/red]", "long_name_" * 8]


@pytest.mark.parametrize("out", NAMES)
def test_run_names_its_results_on_one_line(out: str) -> None:
    text = call("run", *SMALL, "--out", out).output
    assert text.splitlines()[-1] == f"Results: {out}/*.json"


@pytest.mark.parametrize("out", NAMES[1:4:2])
def test_bench_report_and_kept_name_their_files_on_one_line(out: str) -> None:
    options = ["--agents", "ucb", "--budgets", "0.5", "--seeds", "1", "--jobs", "1"]
    last = call("bench", *SMALL, *options, "--out", out).output.splitlines()[-2:]
    assert last == [
        f"Tables in {out}: table.md, table.csv, overall.csv; pictures: accuracy.png, overall.png"
        if Path(out, "overall.csv").exists()
        else f"Tables in {out}: table.md, table.csv; pictures: accuracy.png",
        f"Page: {out}/report.html",
    ]
    assert call("report", out).output.splitlines()[-2:] == last
    assert call("kept", out).output.splitlines()[-1] == f"Picture: {out}/kept.png"


def test_piped_output_tells_one_line_for_each_finished_group() -> None:
    options = ["--agents", "ucb", "--agents", "ucb1", "--budgets", "0.5", "--seeds", "2"]
    lines = call("bench", *SMALL, *options, "--jobs", "1").output.splitlines()
    kwargs = "(train_size=60, epochs=3)"
    assert lines[:3] == [
        f"2 of 6 done: ucb, budget 0.5, seeds 0 to 1, DynPrune-Digits-v0 {kwargs}",
        f"4 of 6 done: ucb1, budget 0.5, seeds 0 to 1, DynPrune-Digits-v0 {kwargs}",
        f"6 of 6 done: full_data, budget 1, seeds 0 to 1, DynPrune-Digits-v0 {kwargs}",
    ]
    again = call("bench", *SMALL, *options, "--jobs", "1").output
    assert " done: " not in again  # nothing was left to do
    assert "━" not in "".join(lines[:3])


def test_run_tells_a_line_too() -> None:
    lines = call("run", *SMALL, "--agent", "ucb1", "--seeds", "2").output.splitlines()
    assert lines[0].startswith("2 of 2 done: ucb1, budget 0.5, seeds 0 to 1, ")


@pytest.mark.parametrize("width", ["30", "40", "60"])
def test_a_narrow_table_keeps_its_agents_and_says_what_it_leaves_out(
    width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.console, "_width", int(width))
    options = ["--agents", "ucb1", "--budgets", "0.5", "--seeds", "2", "--jobs", "1"]
    text = call("bench", *SMALL, *options).output
    assert "agent" in text
    assert "\nucb1 " in text
    assert "\nfull_data " in text
    assert "No room for" in " ".join(text.split())


def test_the_help_shows_what_stands_in_brackets() -> None:
    text = " ".join(call("bench", "--help").output.replace("│", " ").split())
    assert "repeatable. [all]" in text
    assert "How many seeds. [the sweep's: 10]" in text


def test_the_version_can_be_asked_for() -> None:
    assert call("--version").output == f"dynprune {dynprune_env.__version__}\n"


def test_a_sweep_may_begin_with_a_byte_order_mark(here: Path) -> None:
    (here / "mine.toml").write_bytes(b'\xef\xbb\xbfagents = ["ucb"]\n')
    assert load_sweep("mine.toml").agents == ("ucb",)


def test_a_sweep_of_all_agents_and_one_of_ones_own_plays_both(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynprune_agents.cli import play

    (here / "mine_too.py").write_text(
        "import numpy as np\n"
        "from dataclasses import dataclass\n"
        "from dynprune_agents import Agent\n\n"
        "@dataclass\nclass Rule(Agent):\n"
        "    def select(self, observation):\n"
        "        return np.ones(observation['loss'].shape, dtype=bool)\n"
    )
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(play.dynprune_agents, "names", lambda: ["ucb", "full_data"])
    monkeypatch.setattr(play, "VARIANTS", ("ucb(c=2.0)",))
    (here / "mine.toml").write_text(
        'agents = ["all", "mine_too:Rule"]\nbudgets = [0.5]\nseeds = 1\n'
    )
    text = call("bench", "mine.toml", *SMALL, "--jobs", "1", "--trust").output
    played = [line.split(" done: ")[1].split(",")[0] for line in text.splitlines()[:5]]
    assert played == ["ucb", "full_data", "ucb(c=2.0)", "mine_too:Rule", "full_data"]
