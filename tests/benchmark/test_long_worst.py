"""The worst settings of the long study: which are played again, and what the page says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import expand_runs
from benchmarks.expand_runs import expand
from benchmarks.learned import long_worst
from benchmarks.learned.long_study import find_parts
from benchmarks.learned.long_worst import LONG_RUNS, LOWEST, SEEDS, main, replays, table
from benchmarks.learned.tables import Runs, Setting, accuracies


def study() -> Runs:
    return {result.config.key: result for result in expand(LONG_RUNS)}


def test_the_lowest_settings_of_those_near_the_top_are_played_with_other_seeds() -> None:
    runs = study()
    found = replays(runs)
    agents = [each.agent for each in found]
    assert {"learned", "full_data", "kakurenbo"} <= set(agents)
    assert not {"dynamic_random", "infobatch", "ucb"} & set(agents)  # itself, and those far below
    for agent in set(agents):
        own = [each for each in found if each.agent == agent]
        leads = [
            (accuracies(runs, s, agent) - accuracies(runs, s, "dynamic_random")).mean()
            for part in find_parts(None)
            for s in part.settings()
        ]
        assert [each.lead for each in own] == sorted(leads)[:LOWEST]
    for each in found:
        (part,) = find_parts([each.part])
        theirs = part.settings()
        assert not set(each.setting.data_seeds) & set(theirs[0].data_seeds)
        assert not set(each.setting.seeds) & set(theirs[0].seeds)
        assert str(each.setting) in map(str, theirs)
        assert [group.agent for group in each.groups()].count("dynamic_random") > 0


def test_leads_are_paired_and_the_lowest_is_that_of_the_new_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = {"dynamic_random": [70.0, 60.0], "learned": [70.5, 61.5]}

    def made_up(runs: Runs, setting: Setting, agent: str) -> np.ndarray:
        shift = -2.0 if setting.budget == 0.3 and agent == "learned" else 0.0
        return np.array(theirs[agent]) + shift

    monkeypatch.setattr(long_worst, "accuracies", made_up)
    first = Setting("DynPrune-Digits-v0", 0.5, {"label_noise": 0.0}, (1,), SEEDS)
    other = Setting("DynPrune-Digits-v0", 0.3, {"label_noise": 0.0}, (1,), SEEDS)
    text = table(
        {},
        [
            long_worst.Replay("learned", "digits", -0.4, first, True),
            long_worst.Replay("learned", "digits", -0.2, other, True),
        ],
    )
    assert "| `learned` | -0.40 | -1.00 | digits, 0 % noise, budget 30 % |" in text
    line = "| `learned` | digits, 0 % noise, budget 50 % | -0.40 | 2 | **+1.00 (+0.50 to +1.50)** |"
    assert line in text


def test_the_committed_page_is_that_of_the_committed_runs(tmp_path: Path) -> None:
    committed = LONG_RUNS.parents[1] / "long_worst.md"
    expand_runs.main(committed.with_suffix("") / "runs.json.gz", tmp_path / "out")
    main(only_tables=True, out=tmp_path / "out", page=tmp_path / "page.md")
    assert (tmp_path / "page.md").read_bytes() == committed.read_bytes()
