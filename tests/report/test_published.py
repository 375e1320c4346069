"""Published figures beside ours: each with its source and its own full-data row."""

from __future__ import annotations

import io

import pytest
from helpers.results import run, runs
from rich.console import Console

from dynprune_env.report.published import PUBLISHED, published_tables
from dynprune_env.report.summary import Row, summarize
from dynprune_env.report.tables import Grid

TEN, HUNDRED = "DynPrune-CIFAR10-v0", "DynPrune-CIFAR100-v0"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return summarize(
        [
            *runs([0.951, 0.953], agent="ucb", env=TEN, budget=0.5, saved=0.48),
            run(0.78, agent="full_data", env=HUNDRED, budget=1.0, saved=0.0),
            run(0.9, agent="ucb", env="DynPrune-Digits-v0"),
        ]
    )


@pytest.fixture(scope="module")
def grids(rows: list[Row]) -> dict[tuple[str, str], Grid]:
    """By the environment and the block's title."""
    found = published_tables(rows)
    assert len(found) == 2 * len(PUBLISHED)
    return {
        (env, block.title): grid
        for grid in found
        for env in (TEN, HUNDRED)
        for block in PUBLISHED
        if f"{block.title}: {env}" in grid.title
    }


def cells(grid: Grid, method: str) -> list[str]:
    (row,) = (row for row in grid.rows if row[0] == method)
    return list(row[1:])


def test_published_figures_stand_beside_ours_with_their_source_never_in_one_column(
    grids: dict[tuple[str, str], Grid],
) -> None:
    grid = grids[TEN, "SeTa's table of 2025"]
    ucb = cells(grid, "UCB")
    assert ucb == ["95.3", "94.7", "93.9", "-", "95.20 (48)", "-", "[1]"]
    assert "[1] Zhou et al. 2025" in grid.caption
    assert [header.split("\n")[0] for header in grid.headers[1:7]] == ["publ."] * 3 + ["ours"] * 3
    assert cells(grids[TEN, "other papers"], "Data Agent")[:3] == ["-", "95.25", "-"]
    assert cells(grids[HUNDRED, "other papers"], "Data Agent")[:3] == ["-", "78.93", "-"]
    assert published_tables(summarize([run(0.9, agent="ucb", env="DynPrune-Digits-v0")])) == []


def test_each_block_has_its_own_full_data_row_or_says_that_none_is_given(
    grids: dict[tuple[str, str], Grid],
) -> None:
    seta, bls = grids[HUNDRED, "SeTa's table of 2025"], grids[HUNDRED, "BLS's table of 2026"]
    assert seta.rows[0][:7] == ["full data", *["78.2"] * 3, *["78.00 (0)"] * 3]
    assert bls.rows[0][:4] == ["full data (not given)", "-", "-", "-"]
    assert cells(seta, "SeTa")[:3] == ["79.4*", "79.0*", "77.7*"]
    assert cells(seta, "InfoBatch, same epochs")[:3] == ["79.2*", "78.2*", "-"]
    assert "all data reached 79.3" in seta.caption
    assert "79.3" not in bls.caption + grids[TEN, "SeTa's table of 2025"].caption
    assert "*" not in str(grids[TEN, "SeTa's table of 2025"].rows)


@pytest.mark.parametrize(
    ("method", "ten", "hundred"),
    [
        ("InfoBatch, same epochs", ["95.6", "95.0", "94.4"], ["78.3", "77.7", "-"]),
        ("SeTa", ["-", "-", "-"], ["78.4", "78.0", "76.7"]),
        ("GraNd-4", ["95.3", "94.6", "91.2"], ["74.6", "71.4", "68.8"]),
        ("EL2N-20", ["95.3", "95.1", "91.9"], ["77.2", "72.1", "-"]),
    ],
)
def test_the_later_table_of_the_same_authors_is_a_block_of_its_own(
    grids: dict[tuple[str, str], Grid], method: str, ten: list[str], hundred: list[str]
) -> None:
    assert cells(grids[TEN, "BLS's table of 2026"], method)[:3] == ten
    assert cells(grids[HUNDRED, "BLS's table of 2026"], method)[:3] == hundred


def test_the_captions_say_what_was_truly_saved_and_the_tables_fit_80_columns(
    grids: dict[tuple[str, str], Grid],
) -> None:
    for grid in grids.values():
        assert "truly saved 36.6 % on CIFAR-10 and 31.2 % on CIFAR-100" in grid.caption
        console = Console(width=80, file=io.StringIO())
        grid.print(console)
        text = console.file.getvalue()
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        for method, *others in grid.rows:
            begins = method.split()[0]
            assert any(li.startswith(begins) and li.split()[-1] == others[-1] for li in lines), text
        assert "…" not in text
