"""Paired differences against numbers computed by hand, in tables, files and the command."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from helpers.command import call, refuse
from helpers.results import run, runs

from dynprune_env.benchmark.recording import pack
from dynprune_env.benchmark.results import HISTORY, Result
from dynprune_env.report.differences import compare, difference_tables, split_reference
from dynprune_env.report.metrics import mean_interval
from dynprune_env.report.summary import summarize, summarize_tasks
from dynprune_env.report.summary_tables import accuracy_tables

OURS = [0.80, 0.90, 0.70, 0.85, 0.88, 0.79]
THEIRS = [0.78, 0.89, 0.69, 0.80, 0.88, 0.77]


def results() -> list[Result]:
    """Two tasks of two agents, and full data with all visits."""
    found = runs(OURS, agent="ucb") + runs(THEIRS, agent="dynamic_random")
    found += runs([0.6, 0.7], agent="ucb", env="Other-v0")
    found += runs([0.5, 0.65], agent="dynamic_random", env="Other-v0")
    found += runs([0.95] * 6, agent="full_data", budget=1.0)
    return found + runs([0.75] * 2, agent="full_data", budget=1.0, env="Other-v0")


def test_runs_are_paired_by_seed() -> None:
    pairs = np.array(OURS) - np.array(THEIRS)
    (row,) = (each for each in compare(results(), "dynamic_random").per_task if each.pairs == 6)
    assert (row.agent, row.reference, row.budget, row.tasks) == ("ucb", "dynamic_random", 0.5, 1)
    assert row.difference == pytest.approx(fmean(pairs))
    assert (row.low, row.high) == pytest.approx(mean_interval(pairs.tolist()))
    # The seeds' own spread, 7 points, is in neither of the pairs' sides.
    assert row.high - row.low < 0.03


def test_the_order_of_the_files_and_seeds_of_one_side_alone_change_nothing() -> None:
    more = [*results()[::-1], run(0.1, seed=99, agent="ucb"), run(0.9, seed=98, agent="other")]
    before, after = compare(results(), "dynamic_random"), compare(more, "dynamic_random")
    assert after.per_task == before.per_task
    assert after.left_out == ("full_data", "other")


def test_over_tasks_each_task_counts_alike() -> None:
    (row,) = compare(results(), "dynamic_random").over_tasks
    first, second = np.array(OURS) - np.array(THEIRS), np.array([0.1, 0.05])
    assert (row.env, row.variant, row.budget, row.tasks, row.pairs) == ("", "", None, 2, 2)
    assert row.difference == pytest.approx((first.mean() + second.mean()) / 2)
    assert (first.min() + 0.05) / 2 <= row.low <= row.difference <= row.high
    assert row.high <= (first.max() + 0.1) / 2
    rng = np.random.default_rng(5)
    drawn = [
        (rng.choice(first, 6).mean() + rng.choice(second, 2).mean()) / 2 for _ in range(20_000)
    ]
    assert (row.low, row.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=2e-3)


def test_full_data_is_compared_with_at_its_own_budget_or_with_all_visits() -> None:
    found = compare(results(), "full_data")
    assert {row.reference for row in found.per_task} == {"full_data@1"}
    (row,) = (each for each in found.per_task if each.agent == "ucb" and each.pairs == 6)
    assert row.difference == pytest.approx(fmean(OURS) - 0.95)
    shorter = [*results(), *runs([0.9] * 6, agent="full_data", budget=0.5)]
    found = compare(shorter, "full_data")
    (row,) = (each for each in found.per_task if each.agent == "ucb" and each.pairs == 6)
    assert (row.reference, row.difference) == ("full_data", pytest.approx(fmean(OURS) - 0.9))
    found = compare(shorter, "full_data@1")
    (row,) = (each for each in found.per_task if each.agent == "ucb" and each.pairs == 6)
    assert (row.reference, row.difference) == ("full_data@1", pytest.approx(fmean(OURS) - 0.95))


def test_a_reference_that_was_not_played_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no agent of these results is called 'ucbb'.*'ucb'\?$"):
        compare(results(), "ucbb")
    with pytest.raises(ValueError, match=r"AGENT@BUDGET in \(0, 1\], got 'ucb@2'"):
        split_reference("ucb@2")
    with pytest.raises(ValueError, match="no agent played a task of a under one of its seeds"):
        compare([run(0.5, 0, agent="a"), run(0.6, 1, agent="b")], "a")


def test_tables_tell_points_with_their_sign() -> None:
    first, second, over = difference_tables(compare(results(), "dynamic_random"))
    assert first.rows[0][:3] == ("50 %", "ucb", "+1.83")
    assert second.rows[0] == ("50 %", "ucb", "+7.50", "+5.00 to +10.00", "2")
    assert over.rows[0][:2] == ("ucb", "+4.67")
    assert "2 tasks" in over.caption
    assert "Left out, as they lack a task: full_data" in over.caption
    assert "\n| `ucb` | +4.67 |" in over.to_markdown()


@pytest.mark.parametrize(("seeds", "warned"), [(1, False), (2, True), (3, True), (4, True)])
def test_intervals_of_few_seeds_are_not_to_be_trusted(seeds: int, warned: bool) -> None:
    found = runs([0.9, 0.8, 0.7, 0.6][:seeds], agent="a") + runs([0.5] * seeds, agent="b")
    captions = [
        accuracy_tables(summarize(found))[0].caption,
        difference_tables(compare(found, "b"))[0].caption,
    ]
    assert [("do not trust them" in caption) for caption in captions] == [warned] * 2


def test_five_seeds_are_not_warned_of() -> None:
    found = runs([0.9, 0.8, 0.7, 0.6, 0.5])
    assert "trust" not in accuracy_tables(summarize(found))[0].caption


def test_the_reference_is_what_the_probability_of_improvement_refers_to() -> None:
    over = summarize_tasks(results(), baseline="ucb")
    assert over is not None
    assert over.baseline == "ucb"


# -- in the command ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of these results, in the working directory."""
    monkeypatch.chdir(tmp_path)
    history = {name: [0.5] for name in HISTORY}
    selections = pack(np.ones((1, 100), dtype=bool))
    for result in results():
        object.__setattr__(result, "history", history)
        object.__setattr__(result, "selections", selections)
        result.save(tmp_path / "results")
    return tmp_path / "results"


def test_report_tells_the_differences_and_writes_them(folder: Path) -> None:
    text = call("report", "results", "--reference", "dynamic_random").output
    assert "Over all tasks: lead over dynamic_random" in " ".join(text.split())
    assert "+4.67" in text
    with (folder / "differences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["env"] for row in rows if row["agent"] == "ucb"] == ["Digits-v0", "Other-v0", ""]
    assert "lead over dynamic_random" in (folder / "table.md").read_text()
    assert "Paired differences" in (folder / "report.html").read_text()


def test_report_shows_the_agents_that_are_asked_for_and_the_full_run(folder: Path) -> None:
    call("report", "results", "--agents", "ucb(c=1.0)")  # spelled as its default
    table = (folder / "table.md").read_text()
    assert "`ucb`" in table
    assert "`full_data`" in table
    assert "`dynamic_random`" not in table
    call("report", "results", "--agents", "ucb", "--reference", "dynamic_random")
    assert "`dynamic_random`" in (folder / "table.md").read_text()


@pytest.mark.parametrize(
    ("kind", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89")]
)
def test_pictures_come_in_the_format_that_is_asked_for(
    kind: str, begins: bytes, folder: Path
) -> None:
    text = call("report", "results", "--format", kind, "--out", "there").output
    assert f"accuracy.{kind}" in text
    assert sorted(path.name for path in Path("there").glob(f"*.{kind}")) == [
        f"accuracy.{kind}",
        f"overall.{kind}",
    ]
    assert Path("there", f"accuracy.{kind}").read_bytes().startswith(begins)


def test_a_misspelt_agent_or_reference_is_answered(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--agents", "--reference"):
        _, err = refuse("report", "results", option, "dynamic-random", capsys=capsys)
        assert err.endswith("Did you mean 'dynamic_random'?\n")
        assert err.count("\n") == 1
