import csv
import io
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.results import run, runs
from rich.console import Console
from scipy.stats import bootstrap

from dynprune_env.report.summary import (
    Row,
    plot_accuracy,
    print_table,
    summarize,
    to_csv,
    to_markdown,
)


def benchmark():
    """Three agents at two budgets and full data, on two environments; two seeds each."""
    found = []
    for env, top in (("Digits-v0", 0.97), ("Cifar-v0", 0.9)):
        found += runs([top, top - 0.02], agent="full_data", budget=1.0, env=env, saved=0.0)
        for place, agent in enumerate(("ucb(c=2.0)", "random", "loss[abs](k=3)")):
            for budget in (0.25, 0.5):
                best = top - 0.05 * place - 0.1 * (1 - budget)
                saved = 1 - budget
                found += runs([best, best - 0.01], agent=agent, budget=budget, env=env, saved=saved)
    return found


def printed(rows, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_table(rows, console)
    return console.file.getvalue()


def test_a_row_holds_the_means_over_its_seeds():
    (row,) = summarize(
        [
            run(0.8, 0, test_loss=0.4, visits=400, scored=300, saved=0.5, seconds={"total": 2.0}),
            run(0.9, 1, test_loss=0.8, visits=500, scored=0, saved=0.6, seconds={"total": 5.0}),
        ]
    )
    assert (row.env, row.variant, row.agent, row.budget) == ("Digits-v0", "", "ucb(c=2.0)", 0.5)
    assert row.seeds == 2
    assert row.accuracy == pytest.approx(0.85)
    assert row.test_loss == pytest.approx(0.6)
    assert (row.visits, row.scored, row.seconds) == (450, 150, 3.5)
    assert row.saved == pytest.approx(0.55)
    assert row.share == pytest.approx(0.45)


def test_the_spread_is_the_sample_standard_deviation():
    (row,) = summarize(runs([0.7, 0.8, 0.9]))
    assert row.spread == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)


def test_the_interval_of_three_seeds_reaches_from_the_worst_to_the_best():
    # A resample of three repeats the worst thrice with probability 1/27, more than 2.5 %.
    (row,) = summarize(runs([0.7, 0.9, 0.95]))
    assert (row.low, row.high) == pytest.approx((0.7, 0.95))


def test_the_interval_is_scipys_bootstrap_of_the_mean():
    accuracies = np.random.default_rng(3).normal(0.9, 0.02, size=10).tolist()
    (row,) = summarize(runs(accuracies))
    rng = np.random.default_rng(17)  # other draws than the module's move the ends a little
    expected = bootstrap((accuracies,), np.mean, method="percentile", random_state=rng)
    assert row.low == pytest.approx(expected.confidence_interval.low, abs=1.5e-3)
    assert row.high == pytest.approx(expected.confidence_interval.high, abs=1.5e-3)
    assert row.low + 0.005 < row.accuracy < row.high - 0.005


def test_the_interval_is_the_same_every_time_and_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    accuracies = [0.7, 0.8, 0.83, 0.85, 0.9, 0.91]
    assert summarize(runs(accuracies)) == summarize(runs(accuracies))
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("accuracies", [[0.7], [0.7] * 3, [0.1] * 10])
def test_one_seed_or_identical_seeds_have_an_interval_of_width_zero(accuracies):
    (row,) = summarize(runs(accuracies))
    assert row.low == row.high == row.accuracy == pytest.approx(accuracies[0])
    assert row.spread == 0


def test_diverged_seeds_are_counted_and_stay_in_the_means():
    (row,) = summarize([run(0.9, 0), run(0.1, 1, diverged=True), run(0.8, 2, diverged=True)])
    assert row.diverged == 2
    assert row.accuracy == pytest.approx(0.6)
    assert "3 †2" in printed([row], 100)
    assert "†k: k seeds diverged" in printed([row], 200)
    assert "†" not in printed([replace(row, diverged=0)], 100)


def test_rows_are_sorted_by_env_variant_budget_and_falling_accuracy():
    noisy = {"env_kwargs": {"noise": 0.2, "augment": True}}
    rows = summarize(
        [
            run(0.9, env="B", **noisy),
            run(0.7, env="B", budget=0.25, agent="worse"),
            run(0.6, env="B", budget=1.0),
            run(0.8, env="B", budget=0.25, agent="zebra"),
            run(0.5, env="A"),
        ]
    )
    assert [(row.env, row.variant, row.budget, row.accuracy) for row in rows] == [
        ("A", "", 0.5, 0.5),
        ("B", "", 0.25, 0.8),
        ("B", "", 0.25, 0.7),
        ("B", "", 1.0, 0.6),
        ("B", "augment=True, noise=0.2", 0.5, 0.9),
    ]


def test_a_seed_counted_twice_is_refused():
    # The configurations differ (1 and 1.0 hash apart), so that the loader keeps both files.
    with pytest.raises(ValueError, match="a seed occurs twice"):
        summarize([run(0.9, budget=1), run(0.9, budget=1.0)])


def test_nothing_to_report_is_said_clearly(tmp_path):
    for report in (summarize, to_markdown, to_csv, lambda rows: printed(rows, 100)):
        with pytest.raises(ValueError, match="no results to report"):
            report([])
    with pytest.raises(ValueError, match="no results to report"):
        plot_accuracy([], tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())


def test_the_csv_gives_back_every_row_exactly():
    rows = summarize(benchmark())
    kinds = {"str": str, "int": int, "float": float}
    back = [
        Row(**{field.name: kinds[field.type](line[field.name]) for field in fields(Row)})
        for line in csv.DictReader(io.StringIO(to_csv(rows)))
    ]
    assert back == rows


def test_the_table_shows_the_hand_computed_numbers():
    (row,) = summarize(runs([0.7, 0.8, 0.9], visits=16170, saved=0.625))
    text = printed([row], 100)
    (line,) = (line for line in text.splitlines() if "ucb(c=2.0)" in line)
    words = " ".join(line.replace("\N{EN DASH}", "-").split())
    assert words == "ucb(c=2.0) 80.00 ± 10.00 70.00-90.00 0.500 62.5 16.2k 2.00 3"
    assert "budget 50 %" in text
    assert "over 3 seeds" in text
    assert "95 % percentile bootstrap" in " ".join(text.split())


@pytest.mark.parametrize(
    ("visits", "text"), [(999, "999"), (999.7, "1k"), (16170, "16.2k"), (2_174_999, "2.17M")]
)
def test_visits_are_shown_with_three_digits(visits, text):
    (row,) = summarize([run(0.9, visits=visits)])
    assert f" {text} " in printed([row], 100)


def test_one_seed_shows_neither_spread_nor_interval():
    text = printed(summarize([run(0.8)]), 100)
    assert " ± 0" not in text
    assert "\N{EN DASH}" not in text
    assert "neither for one seed" in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_their_width_and_cut_nothing_off(width):
    rows = summarize(benchmark())
    text = printed(rows, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("loss[abs](k=3)") == 4  # brackets are no markup
    assert text.index("Cifar-v0") < text.index("Digits-v0")


def test_only_the_best_mean_of_a_budget_is_bold():
    rows = summarize(
        [run(0.8, agent="good"), run(0.7, agent="bad"), run(0.6, agent="alone", budget=0.1)]
    )
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    print_table(rows, console)
    lines = console.file.getvalue().splitlines()
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


def test_markdown_rows_have_as_many_cells_as_the_header():
    lines = to_markdown(summarize([*benchmark(), run(0.5, agent="a|b")])).splitlines()
    counts = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert counts == {11}


def drawn(rows, path, monkeypatch):
    """The axes that `plot_accuracy` saves."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )
    plot_accuracy(rows, path)
    return figures[0]


def test_the_plot_has_a_panel_per_environment_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "plot.png"
    rows = summarize(benchmark())
    figure = drawn(rows, path, monkeypatch)
    assert [axes.get_title() for axes in figure.axes] == ["Cifar-v0", "Digits-v0"]
    assert os.listdir(path.parent) == ["plot.png"]
    assert path.read_bytes().startswith(b"\x89PNG")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["loss[abs](k=3)", "random", "ucb(c=2.0)", "full_data, budget 100 %"]


def test_an_agent_looks_the_same_in_every_panel_and_unlike_the_others(tmp_path, monkeypatch):
    figure = drawn(summarize(benchmark()), tmp_path / "plot.png", monkeypatch)
    looks = [
        [(bars[0].get_color(), bars[0].get_marker()) for bars in axes.containers]
        for axes in figure.axes
    ]
    assert looks[0] == looks[1]
    assert len({colour for colour, _ in looks[0]}) == len({marker for _, marker in looks[0]}) == 3


def test_points_sit_at_the_share_truly_spent_and_bars_at_the_interval(tmp_path, monkeypatch):
    alone = summarize(
        runs([0.8, 0.9], budget=0.25, saved=0.7) + runs([0.9, 0.94], budget=0.5, saved=0.45)
    )
    (axes,) = drawn(alone, tmp_path / "plot.png", monkeypatch).axes
    ((line, _, (bars,)),) = axes.containers
    assert line.get_xdata() == pytest.approx([30, 55])  # one agent: not shifted
    assert line.get_ydata() == pytest.approx([85, 92])
    assert np.asarray(bars.get_segments())[:, :, 1] == pytest.approx(np.array([[80, 90], [90, 94]]))
    assert "shifted" not in axes.get_xlabel()


def test_agents_at_one_share_are_shifted_apart_by_what_the_axis_says(tmp_path, monkeypatch):
    found = [*runs([0.8, 0.9], agent="a"), *runs([0.8, 0.9], agent="b")]
    (axes,) = drawn(summarize(found), tmp_path / "plot.png", monkeypatch).axes
    places = [bars[0].get_xdata()[0] for bars in axes.containers]
    limit = 0.012 * 20 / 2  # the smallest span is 20 points
    assert places == pytest.approx([50 - limit, 50 + limit])
    assert "±0.1 points" in axes.get_xlabel()


def test_full_data_is_a_line_only_at_budget_one(tmp_path, monkeypatch):
    found = [
        *runs([0.9, 0.92], agent="full_data", budget=1.0, saved=0.0),
        *runs([0.7, 0.8], agent="full_data", budget=0.25, saved=0.75),
    ]
    (axes,) = drawn(summarize(found), tmp_path / "plot.png", monkeypatch).axes
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == (
        pytest.approx([91])
    )
    assert [bars[0].get_xdata().tolist() for bars in axes.containers] == [pytest.approx([25])]


def test_diverged_points_are_hollow_and_explained(tmp_path, monkeypatch):
    found = [run(0.8, budget=0.25, diverged=True), run(0.9, budget=0.5)]
    figure = drawn(summarize(found), tmp_path / "plot.png", monkeypatch)
    (hollow,) = (line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white")
    assert hollow.get_markevery() == [0]
    assert figure.legends[0].get_texts()[-1].get_text() == "hollow: a seed diverged"


def test_three_panels_leave_no_empty_fourth(tmp_path, monkeypatch):
    found = [run(0.8, env=env) for env in "ABC"]
    assert len(drawn(summarize(found), tmp_path / "plot.png", monkeypatch).axes) == 3


def test_a_failed_write_keeps_the_old_plot_and_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "plot.png"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk")

    monkeypatch.setattr("dynprune_env.common.files.os.replace", fail)
    with pytest.raises(OSError, match="disk"):
        plot_accuracy(summarize([run(0.8)]), path)
    assert os.listdir(tmp_path) == ["plot.png"]
    assert path.read_bytes() == b"old"


def test_importing_the_module_loads_no_heavy_library():
    code = "import sys, dynprune_env.report; print({'scipy', 'matplotlib'} & set(sys.modules))"
    root = Path(__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert out.stdout == "set()\n", out.stderr
