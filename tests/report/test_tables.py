"""Grids in the terminal, in Markdown and in HTML, and the tables of a summary."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from helpers.results import benchmark, run, runs
from rich.console import Console

from dynprune_env.report.summary import Row, summarize, summarize_tasks
from dynprune_env.report.summary_tables import (
    accuracy_tables,
    budgets_table,
    numbers_table,
    overall_table,
    time_tables,
)
from dynprune_env.report.tables import Bold, Grid, Muted, to_csv


def shown(grids: Sequence[Grid], width: int, **options: str) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=bool(options), **options)  # type: ignore[arg-type]
    for grid in grids:
        grid.print(console)
    return file.getvalue()


def printed(rows: Sequence[Row], width: int) -> str:
    return shown(accuracy_tables(rows), width)


def to_markdown(rows: Sequence[Row]) -> str:
    return "\n".join(grid.to_markdown() for grid in accuracy_tables(rows))


# -- any grid ----------------------------------------------------------------------------------

GRID = Grid(
    "Title [x]",
    ("who", "a\n%", "b\n%", "c\n%"),
    [("one(<k>)", "1", Bold("2"), "3"), ("two|2", "4", "5", Muted("6"))],
    "a & b",
    subtitle="noise=1",
    spans=(("", 1), ("left", 1), ("right", 2)),
)


def test_a_grid_in_markdown() -> None:
    assert GRID.to_markdown().splitlines() == [
        "### Title [x] (noise=1)",
        "",
        "| who | left a % | right b % | right c % |",
        "| :--- | ---: | ---: | ---: |",
        "| one(<k>) | 1 | **2** | 3 |",
        "| two\\|2 | 4 | 5 | 6 |",
        "",
        "a & b",
    ]
    assert "| `one(<k>)` |" in replace(GRID, code_columns=(0,)).to_markdown()


def test_a_grid_in_html() -> None:
    text = GRID.to_html()
    assert "<caption>Title [x] (noise=1)</caption>" in text
    assert '<th></th><th scope="colgroup" colspan="1">left</th>' in text
    assert '<th scope="colgroup" colspan="2">right</th></tr><tr><th scope="col">who</th>' in text
    assert (
        '<tr><th scope="row">one(&lt;k&gt;)</th><td class="number">1</td>'
        '<td class="number best">2</td><td class="number">3</td></tr>'
    ) in text
    assert '<td class="number muted">6</td>' in text
    assert '<p class="note">a &amp; b</p>' in text
    assert "colgroup" not in replace(GRID, spans=()).to_html()


def test_a_grid_in_the_terminal() -> None:
    grid = replace(GRID, sections=("first", "second"), hidden=1, text_columns=(0, 1))
    lines = [line.rstrip() for line in shown([grid], 60).splitlines()]
    assert lines[:2] == ["Title [x]", "noise=1"]  # brackets are no markup
    assert not any("one(" in line for line in lines)  # hidden
    words = [line.split() for line in lines]
    assert words.index(["first"]) < words.index(["1", "2", "3"]) < words.index(["second"])
    assert "a & b" in lines


def test_the_first_cell_is_broken_where_it_is_long() -> None:
    grid = Grid("t", ("agent", "x"), [("learned(policy='weighted')", "1"), ("ucb(c=2.0)", "2")])
    lines = [line.split() for line in shown([grid], 80).splitlines()]
    assert ["(policy='weighted')"] in lines
    assert ["ucb(c=2.0)", "2"] in lines
    assert ["learned(policy='weighted')", "1"] in [
        line.split() for line in shown([replace(grid, others=52)], 100).splitlines()
    ]


# -- accuracy by budget ------------------------------------------------------------------------


def test_nothing_to_report_is_said_clearly() -> None:
    for function in (accuracy_tables, to_csv):
        with pytest.raises(ValueError, match="no results to report"):
            function([])


def test_diverged_seeds_are_counted_and_explained() -> None:
    (row,) = summarize([run(0.9, 0), run(0.1, 1, diverged=True), run(0.8, 2, diverged=True)])
    assert "3 †2" in printed([row], 100)
    assert "†k: k seeds diverged" in printed([row], 200)
    assert "†" not in printed([replace(row, diverged=0)], 100)


def test_the_csv_gives_back_every_row_exactly() -> None:
    rows = summarize(benchmark())
    kinds: dict[str, Any] = {"str": str, "int": int, "float": float}
    back = [
        Row(**{field.name: kinds[str(field.type)](line[field.name]) for field in fields(Row)})
        for line in csv.DictReader(io.StringIO(to_csv(rows)))
    ]
    assert back == rows


def test_the_table_shows_the_hand_computed_numbers() -> None:
    (row,) = summarize(runs([0.7, 0.8, 0.9], visits=16170, saved=0.625))
    text = printed([row], 100)
    (line,) = (line for line in text.splitlines() if "ucb(c=2.0)" in line)
    words = " ".join(line.replace("\N{EN DASH}", "-").split())
    assert words == "ucb(c=2.0) 80.00 ± 10.00 70.00-90.00 0.500 62.5 16.2k 2.00 3"
    assert "budget 50 %" in text
    assert "over 3 seeds" in text
    assert "95 % percentile bootstrap" in " ".join(text.split())


def test_the_times_less_of_visits_and_seconds_are_those_computed_by_hand() -> None:
    rows = summarize(
        [
            *runs([0.9, 0.8], agent="full_data", budget=1.0, saved=0.0, visits=1000,
                  seconds={"total": 30.0}),
            *runs([0.9, 0.9], agent="ucb", budget=0.5, saved=0.5, visits=500,
                  seconds={"total": 20.0}),
            *runs([0.9, 0.9], agent="rho_loss", budget=0.5, saved=-0.25, visits=500,
                  seconds={"total": 40.0}),
            *runs([0.8, 0.8], agent="emp", budget=0.5, saved=0.5, visits=500,
                  seconds={"total": 60.0}, machine="a slower one"),
            *runs([0.9], agent="ucb", budget=0.5, env="Other-v0"),
        ]
    )  # fmt: skip
    (grid,) = time_tables(rows)  # the other environment has no full data
    assert [list(row) for row in grid.rows] == [
        ["50 %", "rho_loss", "90.00", "500", "0.80", "40.0", "0.75"],
        ["50 %", "ucb", "90.00", "500", "2.00", "20.0", "1.50"],
        ["50 %", "emp", "80.00", "500", "2.00", "60.0", ""],
        ["100 %", "full_data", "85.00", "1k", "1.00", "30.0", "1.00"],
    ]


def test_seconds_too_short_to_be_measured_are_not_divided() -> None:
    full = {"agent": "full_data", "budget": 1.0, "saved": 0.0}
    found = runs([0.9, 0.9], agent="ucb", saved=0.5, seconds={"total": 0.3})
    (short,) = time_tables(summarize([*found, *runs([0.9], **full, seconds={"total": 0.4})]))
    assert {row[-1] for row in short.rows} == {""}
    assert "a run of full data takes less than 0.5 seconds" in short.caption
    (long,) = time_tables(summarize([*found, *runs([0.9], **full, seconds={"total": 0.6})]))
    assert [row[-1] for row in long.rows] == ["2.00", "1.00"]
    assert "less than" not in long.caption


def test_seconds_of_several_machines_are_said_to_be() -> None:
    found = [*runs([0.9, 0.8], agent="ucb"), *runs([0.9, 0.8], agent="emp", machine="another")]
    assert "Seconds are of several machines" in printed(summarize(found), 100)
    assert "several machines" not in printed(summarize(found[:2]), 100)


@pytest.mark.parametrize(
    ("visits", "text"), [(999, "999"), (999.7, "1k"), (16170, "16.2k"), (2_174_999, "2.17M")]
)
def test_visits_are_shown_with_three_digits(visits: float, text: str) -> None:
    (row,) = summarize([run(0.9, visits=visits)])
    assert f" {text} " in printed([row], 100)


def test_one_seed_shows_neither_spread_nor_interval() -> None:
    text = printed(summarize([run(0.8)]), 100)
    assert " ± 0" not in text
    assert "\N{EN DASH}" not in text
    assert "neither for one seed" in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_their_width_and_cut_nothing_off(width: int) -> None:
    rows = summarize(benchmark())
    text = printed(rows, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("loss[abs](k=3)") == 4  # brackets are no markup
    assert text.index("Cifar-v0") < text.index("Digits-v0")


def test_only_the_best_mean_of_a_budget_is_bold() -> None:
    rows = summarize(
        [run(0.8, agent="good"), run(0.7, agent="bad"), run(0.6, agent="alone", budget=0.1)]
    )
    lines = shown(accuracy_tables(rows), 100, color_system="standard").splitlines()
    bold = {
        name: "\x1b[1m" in line
        for name in ("good", "bad", "alone")
        for line in lines
        if name in line
    }
    assert bold == {"good": True, "bad": False, "alone": True}
    markdown = to_markdown(rows)
    assert "| `good` | **80.00** |" in markdown
    assert "| `bad` | 70.00 |" in markdown


def test_markdown_rows_have_as_many_cells_as_the_header() -> None:
    lines = to_markdown(summarize([*benchmark(), run(0.5, agent="a|b")])).splitlines()
    counts = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert counts == {11}


# -- of one environment and variant ------------------------------------------------------------


def test_agents_by_budgets_stand_best_first_with_the_best_of_a_budget_in_bold() -> None:
    rows = summarize(
        [
            *runs([0.9, 0.92], agent="a", budget=0.3, saved=0.7),
            *runs([0.8, 0.82], agent="a", budget=0.5, saved=0.5),
            *runs([0.895, 0.915], agent="b", budget=0.3, saved=0.69, diverged=True),
            *runs([0.95, 0.97], agent="full_data", budget=1.0, saved=0.0),
        ]
    )
    grid = budgets_table(rows)
    assert grid.headers == ("agent", *("accuracy %", "saved %") * 2)
    assert grid.spans[1] == ("budget 30 %\nnominally saved 70 %", 2)
    assert grid.rows == [
        ["b", "90.50 ± 1.00 ≈ †", "69.0", "", ""],
        ["a", "91.00 ± 1.00", "70.0", "81.00 ± 1.00", "50.0"],
    ]
    bold = [cell for row in grid.rows for cell in row if isinstance(cell, Bold)]
    assert bold == ["91.00 ± 1.00", "81.00 ± 1.00"]
    assert "Full data at budget 100 %: 96.00 ± 1.00." in grid.caption


def test_all_numbers_have_a_column() -> None:
    (row,) = summarize(runs([0.7, 0.8, 0.9], visits=16170, scored=20, saved=0.625))
    grid = numbers_table([row])
    named = dict(zip(grid.headers, grid.rows[0], strict=True))
    assert named["accuracy\n%"] == "80.00"
    assert named["sd"] == "10.00"
    assert named["95 %\ninterval"] == "70.00\N{EN DASH}90.00"
    assert (named["visits"], named["scored"], named["diverged"]) == ("16.2k", "20", "")


# -- over tasks --------------------------------------------------------------------------------


def test_the_comparison_over_tasks_as_a_table_and_as_csv() -> None:
    found = [
        *runs([0.7, 0.72, 0.74, 0.76], agent="ucb", saved=0.4),
        *runs([0.6, 0.62, 0.64, 0.66], agent="dynamic_random", saved=0.4),
        run(0.9, agent="thompson", budget=0.3),
        *runs([0.71] * 4, agent="ucb", budget=0.3, saved=0.6),
        *runs([0.61] * 4, agent="dynamic_random", budget=0.3, saved=0.6),
    ]
    over = summarize_tasks(found)
    assert over is not None
    grid = overall_table(over)
    ucb, base = grid.rows
    assert (ucb[0], ucb[1], ucb[3], ucb[5:]) == ("ucb", "71.25", "100", ("1.0", "50.0", "4"))
    assert (base[0], base[3], base[4], base[5]) == ("dynamic_random", "", "", "2.0")
    assert "2 tasks" in grid.caption
    assert grid.subtitle == ""
    assert "one of dynamic_random" in grid.caption
    assert "lack a task: thompson" in grid.caption
    assert "seeds that" not in grid.caption
    assert "not counted" not in grid.caption
    assert to_csv(over.rows).startswith("agent,seeds,iqm,")


def test_the_comparison_over_tasks_says_whose_seeds_do_not_count() -> None:
    found = [run for agent in "ab" for run in runs([0.5, 0.6], agent=agent)]
    over = summarize_tasks([*found, run(0.9, agent="c"), run(0.9, 7, agent="a")])
    assert over is not None
    grid = overall_table(over)
    assert grid.subtitle == "compared with a, not dynamic_random"
    caption = grid.caption
    assert caption.startswith("1 task (environment, variant, budget).")
    assert "Left out, as they lack seeds that most agents played: c." in caption
    assert "Runs not counted, as other agents lack their seeds: 1." in caption


def test_few_seeds_are_warned_of() -> None:
    found = [*runs([0.5, 0.6], agent="a"), *runs([0.4, 0.3], agent="b")]
    over = summarize_tasks(found)
    assert over is not None
    assert "the intervals say little" in overall_table(over).caption
