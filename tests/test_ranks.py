"""Two processes train one selection (gloo, on one machine)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ranks_by_hand import N, train

SCRIPT = Path(__file__).with_name("ranks_by_hand.py")


def two_processes(
    folder: Path, agent: str, drop_last: bool = False, mistake: str = ""
) -> list[dict[str, Any]]:
    running = [
        subprocess.Popen(
            [
                sys.executable,
                SCRIPT,
                folder / "init",
                f"{rank}",
                "2",
                agent,
                f"{drop_last}",
                mistake,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    return [json.loads(out) for out, _ in told]


@pytest.mark.parametrize("agent", ["dynamic_random", "learned"])
def test_two_processes_keep_what_one_keeps_and_visit_every_kept_sample_once(
    agent: str, tmp_path: Path
) -> None:
    first, second = two_processes(tmp_path, agent)
    alone = train(agent)
    assert any(len(kept) % 2 for kept in alone["kept"]), "uneven shares are to be tried as well"
    for told in (first, second):
        for same in ("kept", "charged", "loss_mean", "trained"):
            assert told[same] == alone[same]
    for kept, mine, theirs in zip(first["kept"], first["visits"], second["visits"], strict=True):
        assert len(mine) == len(theirs)
        assert set(mine) | set(theirs) == set(kept)
        repeated = [i for i, times in Counter(mine + theirs).items() if times > 1]
        assert repeated == kept[:1] * (len(kept) % 2)  # filled up from the start


def test_an_uneven_rest_can_be_dropped_and_is_not_charged(tmp_path: Path) -> None:
    first, second = two_processes(tmp_path, "dynamic_random", drop_last=True)
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
    [("seed", "the processes hold different selections"), ("record", "nothing was recorded")],
)
def test_a_mistake_of_one_process_stops_all_with_the_same_sentence(
    mistake: str, sentence: str, tmp_path: Path
) -> None:
    first, second = two_processes(tmp_path, "dynamic_random", mistake=mistake)
    assert sentence in first["error"]
    assert sentence in second["error"]
