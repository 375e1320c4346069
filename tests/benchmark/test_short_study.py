"""The short study plays the policies that it is told, beside its handwritten rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.learned import short_study, transfer


def test_it_plays_the_policies_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {"epochs": 3, "train_size": 100}
    monkeypatch.setattr(short_study, "PARTS", (short_study.Part("tiny", "Digits", tiny, 2),))
    monkeypatch.setattr(short_study, "HANDWRITTEN", ("dynamic_random", "full_data"))
    monkeypatch.setattr(short_study, "NOISE", (0.4,))
    monkeypatch.setattr(short_study, "BUDGETS", (0.5,))
    transfer.main(
        parts=["tiny"], learned=["sb3(policy='ppo_short')", "full_data"], short=True, jobs=1,
        seeds=None, epochs=None, out=tmp_path / "out", table=tmp_path / "short.md", data_dir=None,
        accept_stale=True,
    )  # fmt: skip
    text = (tmp_path / "short.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert rows == {"sb3(policy='ppo_short')", "dynamic_random", "full_data"}
    assert text.count("best handwritten") == 1  # a rule that is named again is no learned policy
    assert len([*(tmp_path / "out").glob("*.json")]) == 8  # two seeds; full data all visits too
