"""The table of all rules is that of the registry, and the committed one is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

import dynprune_agents
from benchmarks import rules

RESULT = Path(rules.__file__).parent / "results" / "rules.md"


def test_every_rule_has_a_row_with_its_class_and_source() -> None:
    found = {row[0]: row for row in rules.rows()}
    assert set(found) == set(dynprune_agents.names())
    for name, (_, its_class, source, compared, differs) in found.items():
        assert its_class == dynprune_agents.classes()[name]
        assert source == dynprune_agents.agent_class(name).source
        assert compared
        assert differs


def test_a_rule_without_facts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(rules.FACTS, "ucb")
    with pytest.raises(ValueError, match="ucb"):
        rules.rows()


def test_the_committed_table_is_what_the_command_makes() -> None:
    assert RESULT.read_text(encoding="utf-8") == rules.table()


def test_what_was_read_at_second_hand_is_so_in_the_table_as_in_the_source() -> None:
    for name, fact in rules.FACTS.items():
        told = dynprune_agents.agent_class(name).source.startswith("second-hand: ")
        assert (rules.SECOND_HAND in fact.compared) == told, name
