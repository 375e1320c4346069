"""The examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.pages import ROOT, run

SHORT = {
    "learn_to_select.py": ["1280"],
    "grpo.py": ["2"],
    "reinforce.py": ["2"],
    "ppo_single_file.py": ["--updates", "2", "--games", "2", "--test-runs", "4"],
}
"""Arguments with which those examples end soon that train for a minute."""


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs_and_prints_an_accuracy(name: str, tmp_path: Path) -> None:
    assert "test accuracy" in run([str(ROOT / "examples" / name), *SHORT.get(name, [])], tmp_path)


@pytest.mark.parametrize("name", ["reinforce.py", "grpo.py"])
def test_the_shortest_examples_of_reinforcement_learning_have_forty_lines(name: str) -> None:
    assert len((ROOT / "examples" / name).read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reinforce.py", "grpo.py", "ppo_single_file.py"])
def test_an_example_of_reinforcement_learning_beats_dynamic_random(
    name: str, tmp_path: Path
) -> None:
    text = run([str(ROOT / "examples" / name)], tmp_path)
    for split in ("val", "test"):
        zero, learned = map(float, re.findall(rf"{split} accuracy ([\d.]+)%", text))
        assert learned > zero + 1.5
