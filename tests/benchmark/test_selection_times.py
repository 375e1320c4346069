"""The script that times selections times epochs in which rules choose."""

from __future__ import annotations

import time

import pytest

import dynprune_agents
from benchmarks.speed import selection
from benchmarks.speed.selection import EPOCHS, Cost, selection_cost, selection_table
from dynprune_agents.dynamic.dynamic_el2n import DynamicEL2N
from dynprune_agents.static.aum import AUM


def test_every_rule_is_timed_where_it_chooses() -> None:
    table = selection_table((300,), rounds=2)
    assert table.count("| `") == len(dynprune_agents.names()) - 1  # sb3 chooses in the environment
    assert table.count("once a run") == 10
    assert "nan" not in table


@pytest.mark.parametrize(("rule", "every"), [(AUM, EPOCHS), (DynamicEL2N, 10)])
def test_what_is_timed_is_the_choice(
    rule: type, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, choose = [0.0], rule.choose

    def slow(*arguments: object) -> object:
        now[0] += 1
        return choose(*arguments)

    monkeypatch.setattr(rule, "choose", slow)
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    name = {AUM: "aum", DynamicEL2N: "dynamic_el2n"}[rule]
    assert selection_cost(name, 300, rounds=3) == Cost(1, every)


def test_a_rule_that_does_not_choose_so_often_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "EPOCHS", 30)
    with pytest.raises(RuntimeError, match=r"ucb chose \d times, not 50"):
        selection_cost("ucb", 300, rounds=50)
