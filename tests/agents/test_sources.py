"""Every rule says where it is from, and which class it is of."""

from __future__ import annotations

import re

import pytest

import dynprune_agents

CLASSES = {"baseline", "dynamic", "weighted", "static", "bandit", "learned"}


@pytest.mark.parametrize("name", dynprune_agents.names())
def test_a_rule_names_its_source_in_one_line(name: str) -> None:
    found = dynprune_agents.agent_class(name)
    source = vars(found).get("source")
    assert source, "not even inherited: a variant says what it is a variant of"
    assert source == source.strip()
    assert "\n" not in source
    ours = source.startswith(("a control of ours", "the usual baseline", "trained by us"))
    assert ours or re.search(r"\b(19|20)\d\d\b", source), "authors and a year"


@pytest.mark.parametrize("name", dynprune_agents.names())
def test_what_was_read_at_second_hand_says_so_in_its_file_and_in_its_source(name: str) -> None:
    found = dynprune_agents.agent_class(name)
    told = __import__(found.__module__, fromlist=["_"]).__doc__ or ""
    says = "second-hand" in told or "after the abstract" in told
    assert says == found.source.startswith("second-hand: ")


def test_there_are_at_least_42_rules_each_of_a_known_class() -> None:
    classes = dynprune_agents.classes()
    assert sorted(classes) == dynprune_agents.names()
    assert len(classes) >= 42
    assert set(classes.values()) == CLASSES
    assert classes["learned"] == "learned"
    assert classes["ucb1"] == "bandit"
