"""Every figure is drawn from its rows, and saved whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.results import benchmark, run, runs, with_epochs
from matplotlib.figure import Figure

from dynprune_env.benchmark.results import Result
from dynprune_env.common.palette import LINES
from dynprune_env.report.figures import (
    draw_accuracy,
    draw_curves,
    draw_overall,
    draw_selections,
    save,
    to_svg,
)
from dynprune_env.report.selections import SelectionAnalysis, SelectionRow
from dynprune_env.report.styles import choose_styles
from dynprune_env.report.summary import summarize, summarize_tasks


def drawn(found: list[Result], **options: Any) -> Figure:
    """The figure of accuracies, as the command draws it."""
    rows = summarize(found)
    return draw_accuracy(rows, choose_styles(rows), **options)


def test_seconds_of_two_machines_are_not_in_one_panel() -> None:
    found = [
        *runs([0.9, 0.8], agent="ucb"),
        *runs([0.9, 0.8], agent="emp"),
        *runs([0.9, 0.8], agent="seta", machine="a slower one", seconds={"total": 60.0}),
    ]
    visits, seconds = drawn(found, on_page=True).axes
    drawn_at = [np.ravel(line.get_xdata()) for line in seconds.lines]
    assert max(np.concatenate(drawn_at)) < 60
    assert "without those of other machines" in seconds.get_xlabel()
    assert "machine" not in visits.get_xlabel()
    assert "machine" not in drawn(found[:4], on_page=True).axes[1].get_xlabel()


# -- styles ------------------------------------------------------------------------------------


def test_eight_agents_are_told_apart_by_more_than_colour_and_the_rest_is_grey() -> None:
    found = [
        row for place in range(14) for row in runs([0.9 - 0.01 * place] * 2, agent=f"a{place:02}")
    ]
    found += runs([0.3, 0.3], agent="dynamic_random")
    styles = choose_styles(summarize(found))
    assert list(styles) == [f"a{place:02}" for place in range(7)] + ["dynamic_random"]
    assert len({style["marker"] for style in styles.values()}) == 8
    looks = {(style["color"], style["linestyle"]) for style in styles.values()}
    assert len(looks) == 8
    assert {colour for colour, _ in looks} == set(LINES)


def test_baselines_and_the_papers_bandits_are_told_apart_wherever_they_stand() -> None:
    last = ["dynamic_random", "ucb", "epsilon_greedy(epsilon=0.3)", "full_data"]
    agents = [f"a{place:02}" for place in range(24)] + ["static_random"] + last
    found = [run(0.9 - 0.01 * place, agent=agent) for place, agent in enumerate(agents)]
    assert list(choose_styles(summarize(found))) == [*agents[:5], *last]


def test_of_a_bandit_with_many_settings_the_plain_one_or_else_the_best_is_told_apart() -> None:
    agents = [f"a{place}" for place in range(9)] + ["ucb(c=2.0)", "ucb(c=3.0)"]
    found = [run(0.9 - 0.01 * place, agent=agent) for place, agent in enumerate(agents)]
    assert list(choose_styles(summarize(found))) == [*agents[:7], "ucb(c=2.0)"]
    assert list(choose_styles(summarize([*found, run(0.1, agent="ucb")])))[-1] == "ucb"


# -- accuracy ----------------------------------------------------------------------------------


def test_the_plot_has_a_panel_per_environment_and_names_every_agent() -> None:
    figure = drawn(benchmark())
    assert [axes.get_title() for axes in figure.axes] == ["Cifar-v0", "Digits-v0"]
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["ucb(c=2.0)", "random", "loss[abs](k=3)", "full_data, budget 100 %"]
    assert legend.get_title().get_text() == "mean over 2 seeds, 95 % bootstrap interval"


def test_an_agent_looks_the_same_in_every_panel_and_unlike_the_others() -> None:
    figure = drawn(benchmark())
    looks = [
        [(bars[0].get_color(), bars[0].get_marker()) for bars in axes.containers]
        for axes in figure.axes
    ]
    assert looks[0] == looks[1]
    assert len({colour for colour, _ in looks[0]}) == len({marker for _, marker in looks[0]}) == 3


def test_points_sit_at_the_share_truly_spent_and_bars_at_the_interval() -> None:
    alone = runs([0.8, 0.9], budget=0.25, saved=0.7) + runs([0.9, 0.94], budget=0.5, saved=0.45)
    (axes,) = drawn(alone).axes
    ((line, _, (bars,)),) = axes.containers
    assert line.get_xdata() == pytest.approx([30, 55])  # one agent: not shifted
    assert line.get_ydata() == pytest.approx([85, 92])
    assert np.asarray(bars.get_segments())[:, :, 1] == pytest.approx(np.array([[80, 90], [90, 94]]))
    assert "shifted" not in axes.get_xlabel()


def test_agents_at_one_share_are_shifted_apart_by_what_the_axis_says() -> None:
    found = [*runs([0.8, 0.9], agent="a"), *runs([0.8, 0.9], agent="b")]
    (axes,) = drawn(found).axes
    places = [bars[0].get_xdata()[0] for bars in axes.containers]
    limit = 0.012 * 20 / 2  # the smallest span is 20 points
    assert places == pytest.approx([50 - limit, 50 + limit])
    assert "±0.1 points" in axes.get_xlabel()


def test_full_data_is_a_line_only_at_budget_one() -> None:
    found = [
        *runs([0.9, 0.92], agent="full_data", budget=1.0, saved=0.0),
        *runs([0.7, 0.8], agent="full_data", budget=0.25, saved=0.75),
    ]
    (axes,) = drawn(found).axes
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == (
        pytest.approx([91])
    )
    assert [bars[0].get_xdata().tolist() for bars in axes.containers] == [pytest.approx([25])]


def test_diverged_points_are_hollow_and_explained() -> None:
    found = [run(0.8, budget=0.25, diverged=True), run(0.9, budget=0.5)]
    figure = drawn(found)
    (hollow,) = (line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white")
    assert hollow.get_markevery() == [0]
    assert figure.legends[0].get_texts()[-1].get_text() == "hollow: a seed diverged"


def test_three_panels_leave_no_empty_fourth() -> None:
    found = [run(0.8, env=env) for env in "ABC"]
    assert len(drawn(found).axes) == 3


def test_agents_that_are_not_singled_out_are_grey_and_counted() -> None:
    found = [
        one for place in range(10) for one in runs([0.9 - 0.01 * place] * 2, agent=f"a{place}")
    ]
    figure = drawn(found)
    assert len(figure.axes[0].containers) == 8
    assert figure.legends[0].get_texts()[-1].get_text() == "2 other agents"


def inside(axes: Any) -> list[list[tuple[float, float]]]:
    """The markers of every line that lie in a panel."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return [
        [(x, y) for x, y in line.get_xydata() if left <= x <= right and bottom <= y <= top]
        for line in axes.lines
        if line.get_marker() in ("v", ">") and not line.get_clip_on()
    ]


@pytest.mark.parametrize("on_page", [False, True])
def test_what_spends_over_100_percent_is_marked_at_the_edge_of_an_axis_that_it_does_not_stretch(
    on_page: bool,
) -> None:
    costly = [run(0.93, agent="el2n", budget=b, saved=-2 - b) for b in (0.3, 0.5)]
    found = [*costly, *(run(0.9, agent="ucb", budget=b, saved=1 - b) for b in (0.3, 0.5))]
    figure = drawn(found, on_page=on_page)
    axes = figure.axes[0]
    left, right = axes.get_xlim()
    assert 20 < left < right < 60
    ((first, second),) = inside(axes)
    assert first[0] == second[0] == right
    assert first[1] == pytest.approx(93)
    assert figure.legends[0].get_texts()[-1].get_text() == "outside the panel"


def test_where_all_spend_over_100_percent_the_axis_shows_them() -> None:
    figure = drawn([run(0.9, agent=agent, saved=-0.5) for agent in ("aum", "el2n")])
    left, right = figure.axes[0].get_xlim()
    assert left < 150 < right
    assert inside(figure.axes[0]) == []
    assert "outside" not in figure.legends[0].get_texts()[-1].get_text()


def test_a_grey_point_below_the_panel_is_marked_at_its_lower_edge() -> None:
    found = [run(0.9 - 0.001 * place, agent=f"a{place}") for place in range(8)]
    axes = drawn([*found, run(0.2, agent="bad")]).axes[0]
    assert axes.get_ylim()[0] > 85
    assert inside(axes) == [[(50, axes.get_ylim()[0])]]


def test_a_bandit_that_collapsed_does_not_squeeze_the_others() -> None:
    found = [run(0.9, agent="a"), run(0.8, agent="dynamic_random"), run(0.2, agent="ucb")]
    axes = drawn(found).axes[0]
    assert 68 < axes.get_ylim()[0] < 70
    (((_, y),),) = inside(axes)
    assert y == axes.get_ylim()[0]
    alone = drawn([found[0], found[2]]).axes[0]  # with nothing to measure a collapse by
    assert alone.get_ylim()[0] < 20


def test_a_page_adds_seconds_and_says_the_rest_itself() -> None:
    found = [
        *runs([0.8, 0.9], budget=0.25, saved=0.7, seconds={"total": 3.0}),
        *runs([0.9, 0.94], budget=0.5, saved=0.45, seconds={"total": 2.0}),
    ]
    figure = drawn(found, on_page=True)
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["", ""]
    assert left.containers[0][0].get_xdata() == pytest.approx([30, 55])
    assert right.containers[0][0].get_xdata() == pytest.approx([2, 3])
    assert right.containers[0][0].get_ydata() == pytest.approx([92, 85])
    assert left.get_ylim() == right.get_ylim()
    assert figure.legends[0].get_title().get_text() in ("", "None")


@pytest.mark.parametrize(
    ("seconds", "numbers"),
    [((0.15, 1.6), ["0.2", "0.5", "1"]), ((0.02, 900), ["0.1", "1", "10", "100", "1000"])],
)
def test_a_logarithmic_axis_has_few_plain_numbers_of_one_size(
    seconds: tuple[float, float], numbers: list[str]
) -> None:
    found = [
        *runs([0.8], agent="ucb", seconds={"total": seconds[0]}),
        *runs([0.9], agent="emp", seconds={"total": seconds[1]}),
    ]
    axes = drawn(found, on_page=True).axes[1]
    low, high = axes.get_xlim()
    places, labels = axes.get_xticks(), axes.get_xticklabels()
    shown = [each.get_text() for x, each in zip(places, labels, strict=True) if low <= x <= high]
    assert shown == numbers
    assert not any(each.get_text() for each in axes.get_xticklabels(minor=True))


def test_bands_of_curves_do_not_depend_on_the_order_of_the_results() -> None:
    scores = np.random.default_rng(0).random((7, 3)).tolist()
    found = [with_epochs(run(each[-1], seed), each) for seed, each in enumerate(scores)]
    styles = choose_styles(summarize(found))
    bands = [draw_curves(each, styles).axes[0].collections[0] for each in (found, found[::-1])]
    assert (bands[0].get_paths()[0].vertices == bands[1].get_paths()[0].vertices).all()


def test_curves_that_end_over_100_percent_do_not_stretch_the_axis_of_the_others() -> None:
    history = {"spent": [0.5, 1.0], "val_accuracy": [0.8, 0.9]}
    cheap = replace(run(0.9, agent="ucb", budget=0.3), history=history)
    costly = replace(run(0.9, agent="el2n", budget=0.3, preparation=1000), history=history)
    both = [cheap, costly]
    figure = draw_curves(both, choose_styles(summarize(both)))
    (axes,) = figure.axes
    assert axes.get_xlim()[1] == pytest.approx(1.05 * 30)
    assert inside(axes) == [[(axes.get_xlim()[1], pytest.approx(90))]]
    assert figure.legends[0].get_texts()[-1].get_text() == "outside the panel"
    alone = draw_curves([costly], choose_styles(summarize([costly])))
    assert alone.axes[0].get_xlim()[0] > 100
    assert inside(alone.axes[0]) == []


# -- over tasks, and what was kept when --------------------------------------------------------


def test_agents_over_all_tasks_stand_best_first() -> None:
    over = summarize_tasks([*runs([0.9, 0.8], agent="good"), *runs([0.5, 0.6], agent="bad")])
    assert over is not None
    left, middle, right = draw_overall(over).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["good", "bad"]
    assert left.get_ylim()[0] > left.get_ylim()[1]
    assert middle.get_xlabel() == "chance to beat a run of bad (%)"
    assert [bar.get_width() for bar in right.patches] == [1, 2]


def selection(agent: str, wrong: float = 0.0, budget: float = 0.5) -> SelectionRow:
    curve = np.array([0.5, 0.4])
    mean = SelectionAnalysis(0.3, 0.5, 0.2, curve[:1], curve, np.full(2, wrong), np.zeros(2))
    return SelectionRow("Digits-v0", "noise=1", agent, budget, 2, 0.9, mean)


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_wrong_labels_are_shown_only_where_there_are_any(wrong: float) -> None:
    rows = [selection("ucb", wrong)]
    titles = [axes.get_title() for axes in draw_selections(rows, choose_styles(rows)).axes]
    expected = ["Digits-v0\nnoise=1\nbudget 50 %", "turnover of the selection (%)"]
    expected += ["drift of the losses (%)"] + ["wrong among the kept (%)"] * (wrong > 0)
    assert titles == expected


def test_shares_are_bars_of_all_agents_and_curves_begin_where_they_can() -> None:
    rows = [selection("ucb"), selection("aum"), selection("ucb", budget=0.3)]
    figure = draw_selections(rows, choose_styles(rows[:1]), on_page=True)
    bars, turnover, drift = figure.axes[3:]
    assert [axes.get_title() for axes in (figure.axes[0], bars)] == ["budget 30 %", "budget 50 %"]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["ucb", "aum"]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([30, 30, 50, 50, 20, 20])
    assert [line.get_xdata().tolist() for line in turnover.lines] == [[2], [2]]
    assert drift.lines[0].get_ydata() == pytest.approx([50, 40])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["ucb", "kept always", "kept sometimes", "kept never", "1 other agents"]


def test_full_data_alone_kept_everything() -> None:
    with pytest.raises(ValueError, match="budget 1"):
        draw_selections([selection("full_data", budget=1.0)], {})


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"), [("plot.png", b"\x89PNG"), ("plot.svg", b"<?xml"), ("plot.pdf", b"%PDF")]
)
def test_the_suffix_says_what_is_written(name: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "new" / name
    save(drawn([run(0.8)]), path)
    assert os.listdir(path.parent) == [name]
    assert path.read_bytes().startswith(start)


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="docx"):
        save(drawn([run(0.8)]), tmp_path / "plot.docx")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_keeps_the_old_plot_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plot.png"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError("disk")

    monkeypatch.setattr("dynprune_env.common.files.os.replace", fail)
    with pytest.raises(OSError, match="disk"):
        save(drawn([run(0.8)]), path)
    assert os.listdir(tmp_path) == ["plot.png"]
    assert path.read_bytes() == b"old"


def test_svg_text_stays_text_and_ids_carry_the_name() -> None:
    text = to_svg(drawn([run(0.8)]), "one")
    assert text.startswith("<svg")
    assert "test accuracy (%)" in text
    assert 'id="one-figure_1"' in text


def test_importing_the_report_loads_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from dynprune_env.report import figures, page, published, selections, summary_tables\n"
        "print({'scipy.stats', 'matplotlib'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout == "set()\n", out.stderr
