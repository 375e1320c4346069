"""An index that is broken, foreign or cannot be written changes nothing but the time."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.indexed import COUNT, index_all, indexed, known, same, watch_reading
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report_cost import make_results
from dynprune_env.benchmark import tabulated
from dynprune_env.benchmark.index import NAME, load_runs
from dynprune_env.benchmark.results import load_results


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
