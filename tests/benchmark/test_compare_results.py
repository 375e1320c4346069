"""Two folders of results are compared field by field, whatever schema their files have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.results import run, with_epochs

from benchmarks.compare_results import compare, main
from dynprune_env.benchmark.results import Result

BEFORE = [with_epochs(run(0.5, seed, replica_seeds=[0, 1]), [1.0, 2.0]) for seed in (0, 1)]
"""Two runs that were played together."""


def saved(folder: Path, *results: Result) -> Path:
    """The folder, with the results in a folder of it."""
    for result in results:
        result.save(folder / "digits")
    return folder


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return saved(tmp_path / "before", *BEFORE)


def test_equal_runs_may_differ_in_time_place_and_schema(tmp_path: Path, before: Path) -> None:
    elsewhere = {
        "versions": {"torch": "9"},
        "commit": "abc",
        "machine": "x",
        "seconds": {"total": 1.0},
    }
    history = {**BEFORE[0].history, "seconds": [3.0, 4.0]}
    after = saved(
        tmp_path / "after", *(replace(each, history=history, **elsewhere) for each in BEFORE)
    )
    for path in before.rglob("*.json"):
        content = json.loads(path.read_text()) | {"schema": 2}
        content["company"] = content.pop("replica_seeds")
        path.write_text(json.dumps(content))
    (after / "note.json").write_text("{}")
    lines, same = compare(before, after)
    assert same
    assert lines == ["2 runs in both, 2 equal, 0 different; 0 only before, 0 only after"]


def test_one_number_that_differs_in_the_last_bit_is_named(tmp_path: Path, before: Path) -> None:
    history = {**BEFORE[1].history, "val_loss": [1.0, 2.0000000000000004]}
    after = saved(tmp_path / "after", BEFORE[0], replace(BEFORE[1], history=history, visits=3))
    lines, same = compare(before, after)
    assert not same
    assert lines[0].endswith("budget 0.5, 1): history.val_loss[1]: 2.0 -> 2.0000000000000004")
    assert lines[0].startswith(f"digits/{BEFORE[1].config.key} (")
    assert lines[1:] == ["2 runs in both, 1 equal, 1 different; 0 only before, 0 only after"]


def test_signed_zeros_and_lost_entries_differ(tmp_path: Path, before: Path) -> None:
    after = saved(tmp_path / "after", with_epochs(BEFORE[1], [1.0]))
    before = saved(before, replace(BEFORE[0], preparation=0.0))
    saved(after, replace(BEFORE[0], preparation=-0.0))
    lines, _ = compare(before, after)
    assert sorted(line.partition("): ")[2] for line in lines[:2]) == [
        "history.kept: 2 entries -> 1",
        "preparation: 0.0 -> -0.0",
    ]


def test_a_run_that_is_missing_on_one_side_is_named(tmp_path: Path, before: Path) -> None:
    after = saved(tmp_path / "after", BEFORE[0])
    for one, other, counts in ((before, after, (1, 0)), (after, before, (0, 1))):
        lines, same = compare(one, other)
        assert not same
        assert lines[0].endswith(f"budget 0.5, 1): only in {before}")
        assert lines[1].endswith(f"{counts[0]} only before, {counts[1]} only after")


def test_the_exit_code_says_whether_anything_differs(
    tmp_path: Path, before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for after, code in ((before, 0), (tmp_path / "empty", 1)):
        with pytest.raises(SystemExit) as left:
            main(before, after)
        assert left.value.code == code
    assert "2 runs in both, 2 equal" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:  # no run at all: nothing is known to be the same
        main(tmp_path / "empty", tmp_path / "empty")
    assert left.value.code == 1
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        compare(before, tmp_path / "nowhere")
