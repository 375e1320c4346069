"""Published figures beside ours: each with its source, never in one column."""

from __future__ import annotations

from helpers.results import run, runs

from dynprune_env.report.published import PUBLISHED, published_tables
from dynprune_env.report.summary import summarize


def test_published_figures_stand_beside_ours_with_their_source_never_in_one_column() -> None:
    rows = summarize(
        [
            *runs([0.951, 0.953], agent="ucb", env="DynPrune-CIFAR10-v0", budget=0.5, saved=0.48),
            run(0.78, agent="full_data", env="DynPrune-CIFAR100-v0", budget=1.0, saved=0.0),
            run(0.9, agent="ucb", env="DynPrune-Digits-v0"),
        ]
    )
    ten, hundred = sorted(published_tables(rows), key=lambda grid: -len(grid.title))[::-1]
    assert "Published" in ten.title
    assert len(ten.rows) == len(PUBLISHED) + 1
    (ucb,) = (row for row in ten.rows if row[0] == "UCB")
    assert ucb[1:4] == ["95.3", "94.7", "93.9"]
    assert ten.rows[-1][1:4] == ["-", "95.25", "-"]
    assert ucb[4:7] == ["-", "95.20 (48)", "-"]
    assert ucb[7] == "[1]"
    assert "[1] Zhou et al. 2025" in ten.caption
    assert [header.split("\n")[0] for header in ten.headers[1:7]] == ["publ."] * 3 + ["ours"] * 3
    assert hundred.rows[0][1:7] == ["78.2"] * 3 + ["78.00 (0)"] * 3
    assert published_tables(summarize([run(0.9, agent="ucb", env="DynPrune-Digits-v0")])) == []
