"""Folders of results with an index, and what an index should say of them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report_cost import make_results
from dynprune_env.benchmark import index
from dynprune_env.benchmark.index import NAME, load_runs
from dynprune_env.benchmark.results import Result, load_results
from dynprune_env.benchmark.tabulated import CURVES, FinishedRun, IndexedRun

COUNT = 12


def index_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a few files that were written just now worth an index."""
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    monkeypatch.setattr(index, "SETTLED", -(10**12))


def indexed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of COUNT results with an index of them."""
    index_all(monkeypatch)
    make_results(place / "results", COUNT)
    assert len(list(load_runs([place / "results"]))) == COUNT
    assert (place / "results" / NAME).exists()
    return place / "results"


def watch_reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
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
    found = [known(found) for found in load_runs(folders, foreign.append)]
    expected: list[str] = []
    return found == [known(each) for each in load_results(folders, expected.append)] and (
        foreign == expected
    )
