"""The script that times selections plays every handwritten rule."""

from __future__ import annotations

from benchmarks.speed.selection import selection_table


def test_every_rule_is_timed_once_it_selects_by_what_it_saw() -> None:
    table = selection_table((300,), rounds=1)
    assert table.count("| `") >= 42
    assert "nan" not in table
