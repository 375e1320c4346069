"""Ten thousand results are reported in seconds, and as they always were."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import call
from helpers.cpu_seconds import cpu_seconds_below
from helpers.episodes import run_script
from helpers.indexed import index_all, indexed
from helpers.results import run, runs
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report_cost import make_results, report
from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.index import NAME, load_runs
from dynprune_env.benchmark.results import load_results
from dynprune_env.report import figures, metrics
from dynprune_env.report.selections import summarize_selections
from dynprune_env.report.styles import choose_styles
from dynprune_env.report.summary import Summary, summarize


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few results are worth an index."""
    index_all(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results with an index of them."""
    return indexed(tmp_path, monkeypatch)


# -- what it costs -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_report_of_two_thousand_results_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    make_results(tmp_path / "results", 2000)
    for _ in range(2):
        with cpu_seconds_below(15):  # six of them on a quiet core
            cost = report(tmp_path / "results", tmp_path / "out")
        assert cost.megabytes < 300
    assert (tmp_path / "results" / NAME).exists()
    assert (tmp_path / "out" / "report.html").exists()


def test_a_report_loads_no_library_that_trains(tmp_path: Path) -> None:
    make_results(tmp_path, 3)
    script = f"""
import contextlib, io, sys
sys.argv = ["dynprune", "report", {str(tmp_path)!r}]
from dynprune_agents.cli.app import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print({{"torch", "scipy", "sklearn", "numba"}} & set(sys.modules))
"""
    assert run_script(script).splitlines()[-1] == "set()"
    assert (tmp_path / "report.html").exists()


# -- the report ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_report_is_the_same_without_an_index_with_one_and_with_one_half_stale(
    small: None, tmp_path: Path
) -> None:
    make_results(tmp_path / "results", 400)
    made = []
    for name in ("none", "fresh", "stale"):
        if name == "stale":
            for path in sorted((tmp_path / "results").glob("*.json"))[::2]:
                path.touch()
        call("report", str(tmp_path / "results"), "--out", str(tmp_path / name))
        made.append({each.name: each.read_bytes() for each in (tmp_path / name).iterdir()})
    assert set(made[0]) >= {"report.html", "table.md", "table.csv", "overall.csv"}
    assert made[0] == made[1] == made[2]


def test_a_report_of_the_files_themselves_is_the_same(folder: Path) -> None:
    indexed, results = list(load_runs([folder])), list(load_results([folder]))
    assert Summary.of(indexed) == Summary.of(results)
    rows = [summarize_selections(each) for each in (indexed, results)]
    for one, other in zip(*rows, strict=True):
        assert (one.agent, one.budget, one.accuracy) == (other.agent, other.budget, other.accuracy)
        for name in ("always", "never", "turnover", "drift", "corrupted"):
            assert np.array_equal(getattr(one.mean, name), getattr(other.mean, name))


@pytest.mark.parametrize("picture", ["accuracy", "on a page", "overall", "kept"])
def test_pictures_are_what_matplotlib_makes_of_them_without_help(
    picture: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        each
        for place in range(12)
        for budget in (0.3, 0.6)
        for each in runs([0.9 - 0.01 * place, 0.8], agent=f"agent_{place}", budget=budget)
    ]
    summary = Summary.of(found)
    styles, selections = choose_styles(summary.rows), summarize_selections(load_runs([folder]))

    def drawn() -> str:
        assert summary.over is not None
        figure = {
            "accuracy": lambda: figures.draw_accuracy(summary.rows, styles),
            "on a page": lambda: figures.draw_accuracy(summary.rows, styles, on_page=True),
            "overall": lambda: figures.draw_overall(summary.over),
            "kept": lambda: figures.draw_selections(selections, choose_styles(selections)),
        }[picture]()
        return figures.to_svg(figure, "a")

    texts = [drawn()]
    monkeypatch.setattr(figures, "lay_out", lambda *_: None)
    texts.append(drawn())
    places = [[float(each) for each in re.findall(r"-?\d+\.\d+", text)] for text in texts]
    assert places[0] == pytest.approx(places[1], abs=1)  # a point at most, where text is measured


# -- the statistics ------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(0, 9))
def test_the_interval_of_a_mean_draws_what_it_always_drew(seeds: int, trial: int) -> None:
    scores = np.random.default_rng([seeds, trial]).random(seeds)
    places = np.random.default_rng(0).integers(seeds, size=(9999, seeds))
    means = np.sort(scores[places].mean(1))
    low, high = metrics.mean_interval(scores.tolist())
    for share, end in ((0.025, low), (0.975, high)):
        place = share * 9998
        below, above = means[int(place)], means[int(place) + 1]
        assert end == pytest.approx(below + place % 1 * (above - below), rel=1e-15)


def test_numbers_do_not_depend_on_what_is_kept_or_on_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    strata, curves = [rng.random(seeds) for seeds in (3, 20, 7)], rng.random((5, 4))

    def numbers() -> list[Any]:
        return [
            metrics.mean_interval(strata[1].tolist()),
            metrics.stratified_interval(strata),
            metrics.probability_of_improvement(strata, strata[::-1]),
            [ends.tolist() for ends in metrics.mean_band(curves)],
        ]

    expected = numbers()
    assert numbers() == expected
    monkeypatch.setattr(metrics, "KEPT_ENTRIES", 0)
    monkeypatch.setattr(metrics, "BLOCK_ENTRIES", 777)
    assert numbers() == expected


def test_a_row_of_a_thousand_seeds_does_not_fill_the_memory() -> None:
    script = """
import resource
import numpy as np
from dynprune_env.report import metrics
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
metrics.mean_interval(np.random.default_rng(0).random(1000).tolist())
metrics.mean_band(np.random.default_rng(0).random((1000, 200)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    assert float(run_script(script)) < 80


def test_only_seeds_make_a_group_also_where_fingerprints_are_shared() -> None:
    made_by = [Fingerprint("a", engine={"threads": text}) for text in "112"]
    rows = [run(0.9, seed, fingerprint=each) for seed, each in enumerate(made_by)]
    assert [row.mixed for row in summarize(rows)] == ["engine"]
    assert [row.mixed for row in summarize(rows[:2])] == [""]
