"""A task's horizon is the shortest run that is level with the longest ones, by val alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import horizon
from benchmarks.horizon import PLANS, Measured, Plan, levels_off
from dynprune_env.benchmark.results import load_results


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([90.0, 94.7, 94.9, 95.0], 10),  # 94.7 is 0.3 behind
        ([90.0, 94.69, 94.9, 95.0], 20),
        ([90.0, 91.0, 92.0, 93.0], 40),
        ([95.0, 94.0, 93.0, 92.0], 5),  # longer runs overfit
        ([90.0, 95.0, 94.0, 94.8], 10),
    ],
)
def test_a_task_levels_off_at_the_shortest_run_within_three_tenths_of_the_best(
    accuracies: list[float], expected: int
) -> None:
    pairs = zip((5, 10, 20, 40), accuracies, strict=True)
    found = [Measured(epochs, accuracy, 1.0) for epochs, accuracy in pairs]
    assert levels_off(found) == expected


def test_a_row_says_what_was_tried_and_whether_it_was_long_enough() -> None:
    found = [Measured(5, 90, 0.5), Measured(10, 95, 1.0)]
    assert horizon.row(Plan("Digits", (5, 10)), found, 3) == [
        "Digits", "1,000", "3", "5 / 10", "90.0 / 95.0", "0.5 / 1", "10, the last tried", "20",
    ]  # fmt: skip


def test_every_plan_tries_the_tasks_default_and_longer_runs_on_clean_labels() -> None:
    assert {plan.task for plan in PLANS} == {
        *("Digits", "Planted", "Shifts", "Pairs", "Clutter", "Words", "WordsHashed"),
        *("FashionMNIST", "CIFAR10Small", "CIFAR100Small"),
    }
    for plan in PLANS:
        (first, *_), settings = plan.groups(10, 7), horizon.settings_of(plan.env, plan.env_kwargs)
        assert first.env_kwargs["label_noise"] == 0
        assert first.env_kwargs["budget"] == 1
        assert settings.num_samples <= 10_000
        assert min(plan.epochs) <= settings.recipe.epochs < max(plan.epochs)


def test_it_goes_on_where_it_stopped_and_measures_val(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"train_size": 100}
    plans = (Plan("Digits", (2, 4), 2, small), Plan("Planted", (2,), 2, small))
    monkeypatch.setattr(horizon, "PLANS", plans)

    def play(*tasks: str) -> str:
        out, table = tmp_path / "out", tmp_path / "horizon.md"
        horizon.main(list(tasks), 2, 1, out, table, None)
        return table.read_text(encoding="utf-8")

    play("Digits")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    assert len(made) == 4
    text = play("Digits", "Planted")
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(list((tmp_path / "out").glob("*.json"))) == 6
    val = [
        100 * result.history["val_accuracy"][-1]
        for result in load_results([tmp_path / "out"])
        if "Digits" in result.config.env and result.epochs == 4
    ]
    assert play("Planted") == text  # a row that was there stays
    assert f" / {sum(val) / 2:.1f} |" in text
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 4


def test_the_docs_say_where_each_task_levels_off_as_the_committed_table_does() -> None:
    root = Path(horizon.__file__).parents[1]
    measured, said = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        for lines in (
            (root / "benchmarks/results/horizon.md").read_text(encoding="utf-8").splitlines(),
            (root / "docs/environments.md").read_text(encoding="utf-8").splitlines(),
        )
    )
    tasks = {plan.task for plan in PLANS}
    levels = {row[0]: row[-2] for row in measured if row[0] in tasks}
    assert levels
    rows = {row[0].strip("`").removeprefix("DynPrune-").removesuffix("-v0"): row for row in said}
    for task, epochs in levels.items():
        assert rows[task][4].split()[:1] == epochs.split(",")[:1], task
