"""What the page of longer runs says, of runs that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.results import run

from benchmarks import expand_runs
from benchmarks.committed_runs import read_rows
from benchmarks.learned import long_horizon
from benchmarks.learned.long_horizon import LONG_RUNS, LONGER, PARTS, main, settings, there, write
from benchmarks.learned.tables import REFERENCE, Runs, Setting
from dynprune_env.benchmark.best_epoch import BestEpoch


def made_up(setting: Setting, agent: str, percents: list[float], best: list[float]) -> Runs:
    """Runs of the first seeds, as many as there are numbers."""
    configs = setting.configs(agent)[: len(percents)]
    found = [
        replace(
            run(agent=agent, accuracy=percent / 100),
            config=config,
            best_epoch=BestEpoch(0, 0.0, top / 100),
            history={"kept": [1]},
        )
        for config, percent, top in zip(configs, percents, best, strict=True)
    ]
    return {each.config.key: each for each in found}


@pytest.mark.parametrize("part", PARTS)
def test_the_games_are_those_of_the_long_study_but_longer(part: str) -> None:
    short, longer = settings(part), settings(part, LONGER)
    assert [each.env_kwargs["epochs"] for each in (*short, *longer)] == [30] * 3 + [60] * 3
    assert [each.env_kwargs["label_noise"] for each in longer] == [0.0, 0.2, 0.4]
    for one, other in zip(short, longer, strict=True):
        assert {**one.env_kwargs, "epochs": 60} == other.env_kwargs
        assert (one.seeds, one.data_seeds, one.budget) == (other.seeds, other.data_seeds, 0.3)


def test_means_are_of_the_seeds_that_are_there_and_leads_are_paired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_horizon, "expand", lambda _: [])
    clean, low, high = settings("cifar100", LONGER)
    runs = made_up(high, "learned", [70, 71, 75], [70, 71, 75])
    runs |= made_up(high.full(), REFERENCE, [60, 62], [66, 68])
    runs |= made_up(settings("cifar100")[2].full(), REFERENCE, [68, 0, 0], [69, 70, 72])
    runs |= made_up(clean, "dynamic_random", [74, 76], [75, 77])
    runs |= made_up(low, "learned", [72], [73])
    runs |= made_up(low.full(), REFERENCE, [70], [71.5])
    assert there(runs, high, "learned").seeds == high.seeds
    assert there(runs, low, "learned").seeds == low.seeds[:1]
    write(runs, ["learned", "dynamic_random"], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| `learned` |  |  |  | 72.0 (1) |  | 72.0 (3) |" in text
    assert "| `dynamic_random` |  | 75.0 (2) |  |  |  |  |" in text
    assert (
        "| `full_data`, all visits, best epoch |  |  |  | 71.5 (1) | 70.3 (3) | 67.0 (2) |" in text
    )
    # 70 - 66 and 71 - 68 of two seeds, 70 - 69, 71 - 70 and 75 - 72 in the shorter runs
    assert "| `learned` |  | +0.50 | +3.50 |  |  | **+1.67 (+1.00 to +3.00)** |" in text
    assert "| `dynamic_random` |  |  |  |  |  |  |" in text
    _, rows = read_rows(tmp_path / "page" / "runs.json.gz", ["agent", "accuracy"])
    ours = sorted(row["accuracy"] for row in rows if row["agent"] == "learned")
    assert ours == [0.7, 0.71, 0.72, 0.75]


def test_the_committed_page_is_that_of_the_committed_runs(tmp_path: Path) -> None:
    committed = LONG_RUNS.parents[1] / "long_horizon.md"
    expand_runs.main(committed.with_suffix("") / "runs.json.gz", tmp_path / "out")
    main(only_tables=True, out=tmp_path / "out", table=tmp_path / "page.md")
    assert (tmp_path / "page.md").read_bytes() == committed.read_bytes()
