"""Two processes train one selection (gloo, on one machine)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import ranks_by_hand
from helpers.ranks_by_hand import N, train

SCRIPT = Path(ranks_by_hand.__file__)


JOBS: dict[str, dict[str, Any]] = {
    "dynamic_random": {"agent": "dynamic_random"},
    "learned": {"agent": "learned"},
    "resumed": {"agent": "learned", "stop_after": 2},
    "drop_last": {"agent": "dynamic_random", "drop_last": True},
    "other seed": {"agent": "dynamic_random", "mistake": "seed"},
    "no records": {"agent": "dynamic_random", "mistake": "record"},
}


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """What both processes messages of each job."""
    file, jobs = tmp_path_factory.mktemp("ranks") / "init", json.dumps([*JOBS.values()])
    running = [
        subprocess.Popen(
            [sys.executable, SCRIPT, file, f"{rank}", "2", jobs],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    output = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0, 0], output
    first, second = (json.loads(out) for out, _ in output)
    return dict(zip(JOBS, zip(first, second, strict=True), strict=True))


@pytest.mark.parametrize("agent", ["dynamic_random", "learned"])
def test_two_processes_keep_what_one_keeps_and_visit_every_kept_sample_once(
    agent: str, messages: dict[str, tuple[Any, Any]]
) -> None:
    first, second = messages[agent]
    alone = train(agent)
    assert any(len(kept) % 2 for kept in alone["kept"]), "uneven shares are to be tried as well"
    for same in ("kept", "charged", "loss_mean", "trained"):
        assert first[same] == second[same] == alone[same]
    for kept, mine, theirs in zip(first["kept"], first["visits"], second["visits"], strict=True):
        assert len(mine) == len(theirs)
        assert set(mine) | set(theirs) == set(kept)
        repeated = [i for i, times in Counter(mine + theirs).items() if times > 1]
        assert repeated == kept[:1] * (len(kept) % 2)  # filled up from the start


def test_processes_that_stop_in_the_middle_of_an_epoch_go_on_with_the_same_visits(
    messages: dict[str, tuple[Any, Any]],
) -> None:
    assert messages["resumed"] == messages["learned"]


def test_an_uneven_rest_can_be_dropped_and_is_not_charged(
    messages: dict[str, tuple[Any, Any]],
) -> None:
    first, second = messages["drop_last"]
    assert first["kept"] == second["kept"]
    trained = [0] * N
    for kept, mine, theirs in zip(first["kept"], first["visits"], second["visits"], strict=True):
        assert sorted(mine + theirs) == sorted(kept[: len(kept) - len(kept) % 2])
        for i in mine + theirs:
            trained[i] += 1
    assert first["trained"] == second["trained"] == trained
    assert first["charged"] == sum(trained)


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("other seed", "the processes hold different selections"),
        ("no records", "nothing was recorded"),
    ],
)
def test_a_mistake_of_one_process_stops_all_with_the_same_sentence(
    mistake: str, sentence: str, messages: dict[str, tuple[Any, Any]]
) -> None:
    first, second = messages[mistake]
    assert sentence in first["error"]
    assert sentence in second["error"]
