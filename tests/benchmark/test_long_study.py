"""The long study: what it plays, what its tables say, and whether its bars are reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from helpers.results import run

import dynprune_agents
from benchmarks.learned import long_study, transfer
from benchmarks.learned.long_picture import draw, lines
from benchmarks.learned.long_study import NAMED, PARTS, find_parts
from benchmarks.learned.long_tables import Column, bars, standing, standings_table
from benchmarks.learned.tables import (
    ORACLE,
    Runs,
    Setting,
    accuracies,
    accuracy_table,
    all_groups,
    play,
)
from dynprune_env import Result
from dynprune_env.benchmark.best_epoch import BestEpoch
from dynprune_env.report.metrics import stratified_interval

DIGITS = "DynPrune-Digits-v0"
SEEDS = (0, 1, 2, 3)
RULES = ("dynamic_random", "ucb", "full_data")

LAST = {
    # per setting, percent for the seeds 0 to 3
    "dynamic_random": ([80, 80, 80, 80], [70, 70, 70, 70]),
    "ucb": ([81, 81, 81, 81], [50, 50, 50, 50]),
    "full_data": ([80, 79, 81, 80], [71, 72, 72, 73]),
    "learned": ([81, 81, 82, 82], [74, 74, 75, 77]),
}
ALL_VISITS = ([86, 86, 86, 86], [60, 60, 60, 60])
STOPPED = ([86, 86, 86, 86], [73, 74, 74, 75])


def settings() -> list[Setting]:
    """A clean one and a noisy one, at 30 %."""
    return [
        Setting(DIGITS, 0.3, {"label_noise": noise, "epochs": 60}, (100,), SEEDS)
        for noise in (0.0, 0.4)
    ]


def made_up(last: dict[str, Any] | None = None, stopped: Any = STOPPED) -> Runs:
    """Results of LAST, their best epochs one point above; the oracle is at 90 where it plays."""
    found: list[Result] = []

    def add(setting: Setting, agent: str, percents: list[float], best: list[float]) -> None:
        for config, percent, top in zip(setting.configs(agent), percents, best, strict=True):
            kwargs = {name: v for name, v in config.env_kwargs.items() if name != "budget"}
            result = run(percent / 100, config.seed, config.agent, config.budget, DIGITS,
                         env_kwargs=kwargs, saved=1 - config.budget)  # fmt: skip
            found.append(replace(result, best_epoch=BestEpoch(1, 0.5, top / 100)))

    for place, setting in enumerate(settings()):
        for agent, values in (last or LAST).items():
            add(setting, agent, values[place], [each + 1 for each in values[place]])
        add(setting.full(), "full_data", ALL_VISITS[place], stopped[place])
        if setting.env_kwargs["label_noise"]:
            add(setting, ORACLE, [90] * 4, [90] * 4)
    return {result.config.key: result for result in found}


def columns() -> list[Column]:
    return [Column("digits", setting, RULES) for setting in settings()]


def test_standings_are_those_computed_by_hand() -> None:
    runs = made_up()
    found = standing(runs, columns(), "learned")
    # Leads: 1, 1, 2, 2 and 4, 4, 5, 7; the middle half of all is 2, 2, 4, 4.
    assert found.middle == pytest.approx(3)
    strata = [np.array([1, 1, 2, 2.0]), np.array([4, 4, 5, 7.0])]
    assert found.interval == pytest.approx(stratified_interval(strata))
    assert (found.worst, found.where) == (
        pytest.approx(1.5),
        "digits, 0 % noise, budget 30 %",
    )
    assert standing(runs, columns(), "ucb").worst == pytest.approx(-20)
    assert standing(runs, columns(), "learned", best=True).middle == pytest.approx(3)
    line = standings_table(runs, columns(), ["ucb", "learned", ORACLE]).splitlines()[2]
    assert line.startswith("| `oracle` | +10.00")


def test_best_epoch_figures_are_those_recorded_and_their_lack_is_an_error() -> None:
    runs = made_up()
    clean, noisy = settings()
    assert accuracies(runs, noisy.full(), "full_data", best=True).tolist() == [73, 74, 74, 75]
    assert accuracies(runs, noisy.full(), "full_data").tolist() == [60, 60, 60, 60]
    table = accuracy_table(runs, [clean, noisy], [*LAST, ORACLE], best_epoch=True)
    assert "| `full_data`, all visits | 86.0 ± 0.0 | 74.0 ± " in table
    assert "**90.0" not in table  # the oracle is none of the best
    assert "**76.0" in table
    bare = {key: replace(each, best_epoch=None) for key, each in runs.items()}
    with pytest.raises(ValueError, match="has no best epoch on record"):
        accuracies(bare, clean, "ucb", best=True)


def test_bars_that_are_reached_are_said_to_be() -> None:
    best, found = bars(made_up(), columns(), ["learned"])
    assert best == "learned"
    assert [each.reached for each in found] == [True, True, True, True]
    ahead, near, stopped, worst = map(str, found)
    assert "**Reached**" in ahead
    assert "the best rule, `full_data`, has +1.00" in ahead
    assert "In 2 of 2." in near
    assert "digits, 40 % noise, budget 30 %: +1.00" in stopped
    assert "`full_data` has +0.00" in worst  # dynamic random does not count
    assert "of the rules that select `ucb` has -20.00" in worst


@pytest.mark.parametrize(
    ("clean", "noisy", "reached"),
    [
        # Level with full data in the noisy setting: not half a point ahead.
        ([80, 79, 81, 80], [71, 72, 72, 73], [False, False, False, False]),
        # Ahead on the whole, but 0.5 behind ucb in the clean one: half of the settings are near.
        ([80.5] * 4, [80] * 4, [True, False, True, True]),
        # 0.3 behind is near enough; full data stopped in time has 74.
        ([80.7] * 4, [74] * 4, [True, True, False, True]),
        # A lead everywhere but in the worst case.
        ([79.9] * 4, [90] * 4, [True, False, True, False]),
    ],
)
def test_a_bar_that_is_missed_is_said_to_be(
    clean: list[float], noisy: list[float], reached: list[bool]
) -> None:
    runs = made_up({**LAST, "learned": (clean, noisy)})
    _, found = bars(runs, columns(), ["learned"])
    assert [each.reached for each in found] == reached
    for each in found:
        assert ("**Missed**" in str(each)) == (not each.reached)


def test_the_best_policy_is_chosen_by_interquartile_mean_and_rules_over_budget_do_not_count() -> (
    None
):
    last = {**LAST, "sb3": ([80] * 4, [70] * 4)}
    runs = made_up(last)
    assert bars(runs, columns(), ["sb3", "learned"])[0] == "learned"
    costly = {
        key: replace(each, saved=0.5, test_accuracy=0.99) if each.config.agent == "ucb" else each
        for key, each in runs.items()
    }
    _, (_, near, *_) = bars(costly, columns(), ["learned"])
    assert near.reached  # though ucb has 99 %


def test_every_part_has_noise_an_oracle_and_the_rules_that_are_asked_for() -> None:
    asked = {"ucb", "epsilon_greedy", "infobatch", "seta", "small_loss", "align_prune"}
    asked |= {"progressive_dropout", "early_stopping", "full_data", "dynamic_random"}
    assert asked <= set(NAMED)
    for part in PARTS:
        agents = part.agents(["learned"])
        assert asked | {"learned", ORACLE} <= set(agents)
        found = part.settings()
        assert {0.2, 0.4} <= {setting.env_kwargs.get("label_noise") for setting in found}
        assert len({str(setting) for setting in found}) == len(found)
        for group in all_groups(found, agents, part.together):
            assert repr(dynprune_agents.make(group.agent)) == group.agent
            assert len(group.seeds) == (part.seeds if part.together else 1)


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--parts are fashion-mnist, .*; got cifar11"):
        find_parts(["cifar10", "cifar11"])


def test_the_study_goes_on_where_it_stopped_and_writes_tables_picture_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kwargs, rules = {"train_size": 100}, (*RULES, "epsilon_greedy")
    tiny = long_study.Part("tiny", "Digits", 5, 2, rules, kwargs, ({"label_noise": 0.4},), (0.3,))
    other = replace(tiny, name="other")
    monkeypatch.setattr(long_study, "PARTS", (tiny, replace(other, epochs=6)))
    where = {
        "out": tmp_path / "out",
        "table": tmp_path / "long.md",
        "picture": tmp_path / "long.png",
        "learned": ["learned"],
        "jobs": 1,
        "data_dir": None,
    }
    plain = {"short": False, "only_estimate": False, "seeds": None, "epochs": None}
    transfer.main(parts=["tiny"], **{**where, **plain, "only_estimate": True})
    assert "tiny: 14 runs, 14 of them left, about" in capsys.readouterr().out
    assert not (tmp_path / "long.md").exists()
    transfer.main(parts=["tiny"], **where, **plain)
    text = (tmp_path / "long.md").read_text(encoding="utf-8")
    for wanted in ("| `oracle` |", "Missed", "## tiny", "Best epoch by val:", "## other\n\nNot"):
        assert wanted in text
    assert (tmp_path / "long.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "long" / "runs.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    assert len(before) == 14
    transfer.main(parts=["tiny"], **where, **plain)
    assert "tiny: 14 runs, 0 of them left" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.json")} == before
    (tmp_path / "long.md").unlink()
    two = {**where, "learned": ["learned", "learned(policy='robust')"], "only_tables": True}
    transfer.main(parts=None, **two, **plain)
    assert (tmp_path / "long.md").read_text(encoding="utf-8") == text  # robust has not played
    transfer.main(parts=None, **{**two, "learned": ["learned(policy='robust')"]}, **plain)
    none = (tmp_path / "long.md").read_text(encoding="utf-8")
    assert none.count("Not played yet.") == 2
    assert "Bars of success" not in none


def test_every_policy_of_the_study_has_a_line_of_its_own_colour() -> None:
    drawn = {label: look["color"] for *_, label, look in lines(long_study.LEARNED)}
    assert len({drawn[policy] for policy in long_study.LEARNED}) == len(long_study.LEARNED)


def test_a_policy_that_has_not_played_all_has_rows_where_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs, rules = {"train_size": 100}, (*RULES, "epsilon_greedy")
    one = long_study.Part("one", "Digits", 5, 2, rules, kwargs, ({"label_noise": 0.4},), (0.3,))
    parts = (one, replace(one, name="two", epochs=6))
    monkeypatch.setattr(long_study, "PARTS", parts)
    part, whole = "learned(policy='robust')", "learned"
    for each, policies in zip(parts, ([part, whole], [whole]), strict=True):
        play(each.settings(), each.agents(policies), tmp_path / "out", 1, best_epoch=True)
    where = {"out": tmp_path / "out", "table": tmp_path / "a.md", "picture": tmp_path / "a.png"}
    transfer.main(
        **{name: None for name in ("parts", "seeds", "epochs", "data_dir")},
        **{name: False for name in ("short", "only_estimate", "accept_stale")},
        **where, learned=[part, whole], only_tables=True, jobs=1,
    )  # fmt: skip
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    over_all, first, second = (text.split("## ")[place] for place in (2, 3, 4))
    assert [f"| `{part}` |" in each for each in (over_all, first, second)] == [False, True, False]
    assert all(f"| `{whole}` |" in each for each in (over_all, first, second))
    with pytest.raises(typer.BadParameter, match="of all data sets"):
        transfer.main(parts=["one"], **where, only_tables=True, only_estimate=False,
                      accept_stale=False, short=False, seeds=None, epochs=None)  # fmt: skip


def test_the_picture_leaves_room_where_bandits_collapse(tmp_path: Path) -> None:
    last = {
        **LAST,
        "ucb": ([5.0] * 4, [5.0] * 4),
        "epsilon_greedy": ([5.0] * 4, [5.0] * 4),
    }
    draw(made_up(last), columns(), ["learned"], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
