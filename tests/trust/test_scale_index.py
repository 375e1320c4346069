"""An index of results says what their files say, whatever happens to them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.indexed import COUNT, index_all, indexed, same, watch_reading

from benchmarks.report_cost import made_up, make_results
from dynprune_env.benchmark import index
from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.index import NAME, load_runs, whole
from dynprune_env.benchmark.masks import pack
from dynprune_env.benchmark.results import RunConfig
from dynprune_env.benchmark.tabulated import IndexedRun


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few results are worth an index."""
    index_all(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results with an index of them."""
    return indexed(tmp_path, monkeypatch)


@pytest.fixture
def read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the result files that are read from here on."""
    return watch_reading(monkeypatch)


def change(path: Path, **numbers: Any) -> None:
    """Writes other numbers into a result file."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **numbers}))


def first(folder: Path) -> Path:
    return min(folder.glob("*.json"))


# -- what is read ------------------------------------------------------------------------------


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
    masks = np.ones((3, whole_run.num_samples), dtype=bool)
    for place, (seed, others) in enumerate(
        [
            (0, {"history": short, "selections": pack(masks[:3])}),
            (1, {"history": nothing, "selections": pack(masks[:0])}),
            (2, {"commit": None, "machine": None, "fingerprint": None, "replica_seeds": None}),
            (3, {"fingerprint": Fingerprint("a", {"m": "1"}, {"p": "2"}, "d", {"device": "c"})}),
            (4, {"versions": {}, "diverged": True, "saved": -1.5, "preparation": 0.1}),
            (2**70, {}),  # more than a column can hold
            (5, {"visits": 2**70}),
        ]
    ):
        config = replace(whole_run.config, seed=seed, env=f"A-v{place % 2}")
        changed = {"replica_seeds": [seed], **others}
        replace(whole_run, config=config, **changed).save(tmp_path)
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = watch_reading(monkeypatch)
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


def test_runs_that_another_folder_has_with_other_numbers_are_counted(
    folder: Path, tmp_path: Path
) -> None:
    copy, notes = tmp_path / "copy", list[str]()
    shutil.copytree(folder, copy)
    list(load_runs([folder, copy, copy], on_note=notes.append))
    assert notes == []
    change(first(copy), test_accuracy=0.123)
    list(load_runs([folder, copy, copy], on_note=notes.append))
    change(max(copy.glob("*.json")), visits=1)
    list(load_runs([folder, copy], on_note=notes.append))
    there = "there twice, with different numbers: those read first count"
    assert notes == [f"1 run is {there}", f"2 runs are {there}"]


def test_a_merge_by_copying_is_all_of_both(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_results(other, COUNT + 5, seed=1)
    assert len(list(load_runs([other]))) == COUNT + 5
    for path in other.iterdir():  # the index too
        shutil.copy2(path, folder / path.name)
    for _ in range(2):
        assert same([folder])
    assert len(list(load_runs([folder]))) == COUNT + 5
