"""Results for analysis: read from folders, as tables, and what was kept."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.results import play, runs

import dynprune_env
from dynprune_env import Results, kept_masks, load_results, to_frame


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two results of small runs."""
    for agent, settings in (("ucb", {}), ("dynamic_random", {"label_noise": 0.2})):
        play(agent, **settings).save(tmp_path / "results")
    return tmp_path / "results"


def test_results_are_read_from_folders_named_in_any_way(folder: Path) -> None:
    found = load_results(str(folder))
    assert isinstance(found, Results)
    assert sorted(result.config.agent for result in found) == ["dynamic_random", "ucb"]
    assert load_results(folder) == load_results([folder]) == load_results(folder, folder) == found
    with pytest.raises(FileNotFoundError, match="there is no folder nowhere"):
        load_results("nowhere")
    with pytest.raises(ValueError, match="at least one folder"):
        load_results()


def test_kept_masks_say_what_each_epoch_trained(folder: Path) -> None:
    for result in load_results(folder):
        masks = kept_masks(result)
        assert masks.dtype == bool
        assert masks.shape == (len(result.history["kept"]), result.num_samples)
        assert masks.sum(1).tolist() == result.history["kept"]
        assert masks.sum() == result.visits


def test_a_frame_has_a_row_for_each_run_and_a_column_for_each_number(folder: Path) -> None:
    pytest.importorskip("pandas")
    frame = load_results(folder).to_frame()
    assert list(frame.columns[:5]) == ["env", "variant", "agent", "budget", "seed"]
    row = frame.set_index("agent").loc["dynamic_random"]
    (result,) = (r for r in load_results(folder) if r.config.agent == "dynamic_random")
    assert row.test_accuracy == result.test_accuracy
    assert row.seconds == result.seconds["total"]
    assert (row.label_noise, row.train_size, row.epochs) == (0.2, 60, 10)
    assert frame.set_index("agent").label_noise.isna()["ucb"]
    assert frame.groupby("agent").test_accuracy.mean()["ucb"] > 0


def test_a_frame_of_histories_has_a_row_for_each_epoch(folder: Path) -> None:
    pytest.importorskip("pandas")
    results = load_results(folder)
    frame = results.to_frame(history=True)
    assert len(frame) == sum(len(result.history["kept"]) for result in results)
    mine = frame[frame.agent == "ucb"]
    (result,) = (each for each in results if each.config.agent == "ucb")
    assert mine.epoch.tolist() == list(range(1, len(mine) + 1))
    assert mine.val_accuracy.tolist() == result.history["val_accuracy"]
    assert np.isclose(mine.visits.iloc[-1], result.visits)


def test_without_pandas_a_frame_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'dynprune\[pandas\]'"):
        to_frame(runs([0.5]))


def test_the_package_lists_these_names() -> None:
    assert {"load_results", "to_frame", "kept_masks"} <= set(dir(dynprune_env))
