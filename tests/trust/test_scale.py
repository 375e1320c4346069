"""Ten thousand results are reported in seconds; an index of them says what their files say."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import call
from helpers.episodes import run_script
from helpers.results import run, runs
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report_cost import made_up, make_results, report
from dynprune_env.benchmark import index, tabulated
from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.index import NAME, load_runs, whole
from dynprune_env.benchmark.results import Result, RunConfig, load_results
from dynprune_env.benchmark.tabulated import CURVES, FinishedRun, IndexedRun
from dynprune_env.report import figures, metrics
from dynprune_env.report.selections import summarize_selections
from dynprune_env.report.styles import choose_styles
from dynprune_env.report.summary import Summary, summarize

COUNT = 12


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a few files that were written just now are worth an index."""
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    monkeypatch.setattr(index, "SETTLED", -(10**12))


@pytest.fixture
def folder(small: None, tmp_path: Path) -> Path:
    """Results with an index of them."""
    make_results(tmp_path / "results", COUNT)
    assert len(list(load_runs([tmp_path / "results"]))) == COUNT
    assert (tmp_path / "results" / NAME).exists()
    return tmp_path / "results"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the result files that are read from here on."""
    names: list[str] = []
    load = Result.load

    def note(path: Path) -> Result:
        names.append(path.name)
        return load(path)

    monkeypatch.setattr(Result, "load", note)
    return names


def known(found: FinishedRun) -> dict[str, Any]:
    """What an index knows of a run, and its selections."""
    names = {field.name for field in fields(Result)} & {field.name for field in fields(IndexedRun)}
    content = {name: getattr(found, name) for name in names - {"seconds"}}
    content |= {"total": found.seconds["total"], "selections": found.selections}
    return content | {name: list(found.history[name]) for name in CURVES}


def same(folders: list[Path]) -> bool:
    """Whether the index and the files say the same, in the same order."""
    foreign: list[str] = []
    indexed = [known(found) for found in load_runs(folders, foreign.append)]
    expected: list[str] = []
    return indexed == [known(each) for each in load_results(folders, expected.append)] and (
        foreign == expected
    )


def change(path: Path, **numbers: Any) -> None:
    """Writes other numbers into a result file."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **numbers}))


def first(folder: Path) -> Path:
    return min(folder.glob("*.json"))


# -- what it costs -----------------------------------------------------------------------------


def test_a_report_of_two_thousand_results_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    make_results(tmp_path / "results", 2000)
    for _ in range(2):
        cost = report(tmp_path / "results", tmp_path / "out")
        assert cost.seconds < 12  # four on an idle machine; the old one loaded torch alone for two
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


def test_results_that_did_not_change_are_not_read_again(folder: Path, read: list[str]) -> None:
    before = os.stat(folder / NAME)
    assert len(list(load_runs([folder]))) == COUNT
    assert read == []
    assert os.stat(folder / NAME).st_mtime_ns == before.st_mtime_ns


def test_selections_are_read_only_of_the_runs_that_are_asked_for(folder: Path) -> None:
    one, other = list(load_runs([folder]))[:2]
    assert isinstance(other, IndexedRun)
    other.path.unlink()
    assert one.selections == whole(one).selections
    with pytest.raises(FileNotFoundError):
        other.selections  # noqa: B018 - reading it is the test
    other.path.write_text('{"schema": 4}')
    with pytest.raises(ValueError, match="is not a dynprune result file"):
        other.selections  # noqa: B018


def test_few_results_leave_no_index(tmp_path: Path) -> None:
    make_results(tmp_path, COUNT)
    assert len(list(load_runs([tmp_path]))) == COUNT
    assert not (tmp_path / NAME).exists()


# -- the files stay the truth --------------------------------------------------------------------


def test_an_index_says_what_the_files_say(folder: Path) -> None:
    assert same([folder])
    (folder / NAME).unlink()
    assert same([folder])


def test_runs_of_every_kind_are_in_an_index_as_they_are_in_their_files(
    small: None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    kwargs: dict[str, Any] = {"budget": 1, "train_size": 60, "name": "é|", "flag": True, "x": None}
    whole_run = made_up(RunConfig("A-v0", kwargs, "mine:Agent(x=1)", 2**63 - 1), rng)
    short = {name: values[:3] for name, values in whole_run.history.items()}
    nothing: dict[str, list[float]] = {name: [] for name in short}
    for place, (seed, others) in enumerate(
        [
            (0, {"history": short}),
            (1, {"history": nothing, "selections": ""}),
            (2, {"commit": None, "machine": None, "fingerprint": None, "replica_seeds": None}),
            (3, {"fingerprint": Fingerprint("a", {"m": "1"}, {"p": "2"}, "d", {"device": "c"})}),
            (4, {"versions": {}, "diverged": True, "saved": -1.5, "preparation": 0.1}),
            (2**70, {}),  # more than a column can hold
            (5, {"visits": 2**70}),
        ]
    ):
        config = replace(whole_run.config, seed=seed, env=f"A-v{place % 2}")
        replace(whole_run, config=config, **others).save(tmp_path)
    whole_run.save(tmp_path)
    for _ in range(2):
        assert same([tmp_path])
    assert len(list(load_runs([tmp_path]))) == 8


def test_changed_added_and_deleted_files_are_noticed(folder: Path, read: list[str]) -> None:
    paths = sorted(folder.glob("*.json"))
    change(paths[0], test_accuracy=0.123)
    paths[1].unlink()
    added = made_up(RunConfig("B-v0", {"budget": 0.5}, "ucb", 0), np.random.default_rng(0))
    new = added.save(folder)
    found = {each.config.key: each for each in load_runs([folder])}
    assert sorted(read) == sorted([paths[0].name, new.name])
    assert found[paths[0].stem].test_accuracy == 0.123
    assert paths[1].stem not in found
    assert len(found) == COUNT
    assert same([folder])


def test_a_change_that_keeps_size_and_time_is_noticed(folder: Path) -> None:
    path = first(folder)
    old, text = path.stat(), path.read_text()
    accuracy = json.loads(text)["test_accuracy"]
    other = str(accuracy)[:-1] + ("1" if str(accuracy)[-1] != "1" else "2")
    path.write_text(text.replace(str(accuracy), other))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert next(load_runs([folder])).test_accuracy == float(other)


def test_files_of_just_now_are_read_again_as_they_may_change_within_a_clocks_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    make_results(tmp_path, 1)
    now = first(tmp_path).stat().st_ctime_ns
    for since, again in ((0, 1), (0, 1), (10**9, 1), (10**9, 0)):
        monkeypatch.setattr("time.time_ns", lambda since=since: now + since)
        read.clear()
        assert len(list(load_runs([tmp_path]))) == 1
        assert len(read) == again


def test_a_malformed_file_is_told_of_every_time_until_it_is_mended(folder: Path) -> None:
    path = first(folder)
    text = path.read_text()
    for broken in (text[:100], '{"a": 1}', "[]", ""):
        path.write_text(broken)
        for _ in range(2):
            foreign: list[str] = []
            assert len(list(load_runs([folder], foreign.append))) == COUNT - 1
            assert [str(path) in message for message in foreign] == [True]
        with pytest.raises(ValueError, match=path.name):
            list(load_runs([folder]))
    path.write_text(text)
    assert same([folder])
    assert len(list(load_runs([folder]))) == COUNT


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        list(load_runs([tmp_path / "nowhere"]))


# -- copies and merges ---------------------------------------------------------------------------


@pytest.mark.parametrize("with_index", [False, True])
def test_a_copied_folder_is_read_as_it_is(folder: Path, with_index: bool, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    if not with_index:
        (copy / NAME).unlink()
    change(first(copy), test_loss=7.0)
    for _ in range(2):
        assert same([copy])
    assert next(load_runs([copy])).test_loss == 7


def test_folders_that_overlap_count_each_run_once_and_the_first_wins(
    folder: Path, tmp_path: Path, read: list[str]
) -> None:
    other = tmp_path / "other"
    make_results(other, COUNT + 5, seed=1)
    for folders in ([folder, other], [other, folder], [folder, folder]):
        for _ in range(2):
            assert same(folders)
    assert len(list(load_runs([folder, other]))) == COUNT + 5
    shared = {path.stem for path in folder.glob("*.json")}
    found = {each.config.key: each for each in load_runs([folder, other])}
    assert all(found[key].path.parent == folder for key in shared)  # type: ignore[union-attr]


def test_a_merge_by_copying_is_all_of_both(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_results(other, COUNT + 5, seed=1)
    assert len(list(load_runs([other]))) == COUNT + 5
    for path in other.iterdir():  # the index too
        shutil.copy2(path, folder / path.name)
    for _ in range(2):
        assert same([folder])
    assert len(list(load_runs([folder]))) == COUNT + 5


# -- an index that is none -----------------------------------------------------------------------


class Trap:
    """Tells that it was unpickled."""

    sprung: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return Trap.sprung.append, ("sprung",)


def rewritten(data: bytes, **others: Any) -> bytes:
    """The index with other arrays."""
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: others.get(name, file[name]) for name in file}
    out = io.BytesIO()
    np.savez(out, **{**arrays, **others})
    return out.getvalue()


def array_of(data: bytes, name: str) -> np.ndarray:
    with np.load(io.BytesIO(data)) as file:
        return file[name]


def other_header(data: bytes, **others: Any) -> bytes:
    header = json.loads(array_of(data, "shared").tobytes())
    text = json.dumps({**header, **others}).encode()
    return rewritten(data, shared=np.frombuffer(text, np.uint8))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


def saved(value: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, value, allow_pickle=True)
    return out.getvalue()


BREAK: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "garbage": lambda data: bytes(range(256)) * 9,
    "text": lambda data: b"{}",
    "cut off": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"x" * 100_000,
    "one bit in the arrays": lambda data: flipped(data, len(data) // 2),
    "pickle": lambda data: pickle.dumps(Trap()),
    "pickled array": lambda data: saved(np.array([Trap()], dtype=object)),
    "array": lambda data: saved(np.arange(3)),
    "pickle within": lambda data: rewritten(data, names=np.array([Trap()] * COUNT, dtype=object)),
    "another version": lambda data: other_header(data, made_by=[0, 4, "0.1"]),
    "lists too short": lambda data: other_header(data, agent=[]),
    "lists of something else": lambda data: other_header(data, settings=[1]),
    "no header": lambda data: rewritten(data, shared=np.empty(0, np.uint8)),
    "numbers of another type": lambda data: rewritten(data, counts=np.zeros((COUNT, 7))),
    "fewer lines": lambda data: rewritten(data, measures=array_of(data, "measures")[1:]),
    "shorter curves": lambda data: rewritten(data, curves=array_of(data, "curves")[1:]),
    "negative lengths": lambda data: rewritten(data, lengths=-array_of(data, "lengths")),
}


@pytest.mark.parametrize("kind", BREAK)
def test_a_broken_or_foreign_index_is_made_anew_and_never_unpickled(
    kind: str, folder: Path, read: list[str]
) -> None:
    good = (folder / NAME).read_bytes()
    broken = BREAK[kind](good)
    (folder / NAME).write_bytes(broken)
    found = [known(each) for each in load_runs([folder])]
    if kind != "longer":  # a ZIP file's reader may or may not mind
        assert len(read) == COUNT
        assert (folder / NAME).read_bytes() != broken
    assert found == [known(each) for each in load_results([folder])]
    read.clear()
    assert len(list(load_runs([folder]))) == COUNT
    assert read == []
    assert Trap.sprung == []


@given(st.data())
def test_an_index_with_any_byte_changed_says_the_truth_or_nothing(data: st.DataObject) -> None:
    content = GOOD.value
    place = data.draw(st.integers(0, len(content) - 1))
    broken = flipped(content, place)
    GOOD.path.write_bytes(broken)
    found = tabulated.read_table(GOOD.path)
    lines = len(found.arrays["names"])
    assert lines in (0, COUNT)
    if lines:
        for name, expected in GOOD.arrays.items():
            assert np.array_equal(found.arrays[name], expected)
        assert np.array_equal(found.curves.all, GOOD.curves)


class Good:
    """An index in memory, and a place for broken ones."""

    path: Path
    value: bytes
    arrays: dict[str, np.ndarray]
    curves: np.ndarray


GOOD = Good()


@pytest.fixture(autouse=True)
def good(request: pytest.FixtureRequest) -> None:
    """Fills `GOOD` for the test that changes bytes: Hypothesis has no fixtures per example."""
    if "any_byte" not in request.node.name:
        return
    where: Path = request.getfixturevalue("folder")
    GOOD.path, GOOD.value = where.parent / "broken.npz", (where / NAME).read_bytes()
    table = tabulated.read_table(where / NAME)
    GOOD.arrays, GOOD.curves = table.arrays, table.curves.all


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_results(tmp_path, COUNT)
    before = sorted(os.listdir(tmp_path))

    def refuse(*_: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("dynprune_env.common.files.os.replace", refuse)
    assert same([tmp_path])
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_in_the_place_of_the_index_is_let_alone(small: None, tmp_path: Path) -> None:
    make_results(tmp_path, COUNT)
    (tmp_path / NAME).mkdir()
    assert same([tmp_path])
    assert not list(tmp_path.glob("*.partial"))


# -- the report ----------------------------------------------------------------------------------


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
