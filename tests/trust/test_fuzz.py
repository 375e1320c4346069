"""Broken files are refused, or load and are finite: `python -m benchmarks.fuzz`, but shorter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import Kind, broken, fuzz, kinds

NAMES = (
    "result",
    "scorer policy",
    "SB3 policy",
    "SB3 set policy",
    "sweep",
    "sampler state",
    "run state",
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds(tmp_path_factory.mktemp("good"))}


def test_the_kinds_are_these(known: dict[str, Kind]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_broken_files_are_refused_or_load_and_are_finite(
    known: dict[str, Kind], name: str, tmp_path: Path
) -> None:
    counts, faults = fuzz(known[name], 300, 1, tmp_path)
    assert faults == []
    assert sum(counts.values()) == 300
    assert counts["refused"] > 100  # most of what was broken matters
    assert counts["loaded"] > 0  # and some of it does not


def test_whatever_else_a_reader_does_is_counted_as_a_fault(tmp_path: Path) -> None:
    def read(path: Path) -> object:
        match len(path.read_bytes()):
            case 0:
                raise KeyError("x")
            case 1:
                raise ValueError
            case 2:
                return {"a": [np.array([1.0, np.nan])]}
            case 3:
                raise ValueError("refused")
        return 1.0

    kind = Kind("mine", ".txt", b"good", read, (lambda content, rng: content[: rng.integers(5)],))
    counts, faults = fuzz(kind, 100, 0, tmp_path)
    assert min(counts["refused"], counts["loaded"]) > 5
    assert counts["faults"] == len(faults)
    assert {fault.what for fault in faults} == {
        "KeyError: 'x'",
        "a ValueError that says nothing",
        "loaded, but it is not finite",
    }


def test_a_number_makes_the_same_broken_file_again(known: dict[str, Kind]) -> None:
    for kind in known.values():
        assert broken(kind, 7, 0) == broken(kind, 7, 0)
        assert len({broken(kind, number, 0) for number in range(20)}) > 10
