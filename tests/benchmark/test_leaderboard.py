"""The leaderboard shows hand-computed numbers, from committed files alone; a row replays."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import dynprune_agents
from benchmarks import compact_runs, expand_runs, leaderboard
from benchmarks.committed_runs import Game, parse_variant, read_rows, read_runs
from benchmarks.compact_runs import compact
from benchmarks.leaderboard import by_agent, regime_table, replay, standings
from dynprune_env import run_episodes
from dynprune_env.benchmark.results import RunConfig, load_results
from dynprune_env.report.metrics import stratified_interval

DIGITS = "DynPrune-Digits-v0"
COLUMNS = ("env", "variant", "agent", "budget", "seed", "accuracy", "saved")


def write(path: Path, rows: list[Any], columns: tuple[str, ...] = COLUMNS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"columns": columns, "rows": rows}))


def rows(agent: str, accuracies: list[float], budget: float = 0.5, **others: Any) -> list[Any]:
    variant, saved = others.get("variant", ""), others.get("saved", 1 - budget)
    return [
        [DIGITS, variant, agent, budget, seed, accuracy, saved]
        for seed, accuracy in enumerate(accuracies)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clean settings and a noisy one; by hand:

    ucb leads by 1, 3, 2, 2 points at 50 % and by -1, 1, 0, 4 at 30 %: means 2 and 1, the middle
    half of all eight is 1, 1, 2, 2. seta has one setting, forgetting spends too much.
    """
    base = [0.80, 0.81, 0.82, 0.83]
    write(
        tmp_path / "a" / "runs.json",
        [
            *rows("dynamic_random", base),
            *rows("ucb", [0.81, 0.84, 0.84, 0.85]),
            *rows("infobatch", [0.80, 0.81, 0.82, 0.82]),
            *rows("forgetting", [0.9] * 4, saved=0.4),
            *rows("seta", [0.9] * 4),
            *rows("full_data", [0.9, 0.91, 0.92, 0.93], 1.0),
        ],
    )
    write(
        tmp_path / "a" / "runs_more.json",
        [
            *rows("dynamic_random", base, 0.3),
            *rows("ucb", [0.79, 0.82, 0.82, 0.87], 0.3),
            *rows("infobatch", [0.81, 0.83, 0.82, 0.84], 0.3),
            *rows("forgetting", [0.9] * 4, 0.3),
            *rows("dynamic_random", base, variant="label_noise=0.2"),
            *rows("infobatch", [0.79, 0.80, 0.81, 0.82], variant="label_noise=0.2"),
            *rows("ucb", [0.1] * 4, variant="weights=raw"),
        ],
    )
    return tmp_path


def test_leads_are_those_computed_by_hand(folder: Path) -> None:
    found = {each.agent: each for each in standings(by_agent(read_runs(folder)), "short clean")}
    ucb = found["ucb"]
    assert ucb.middle == pytest.approx((1 + 1 + 2 + 2) / 4)
    strata = [np.array([-1, 1, 0, 4.0]), np.array([1, 3, 2, 2.0])]
    assert ucb.interval == pytest.approx(stratified_interval(strata))
    assert (ucb.worst, ucb.where) == (pytest.approx(1), Game(DIGITS, "", 0.3))
    assert found["infobatch"].middle == pytest.approx((0 + 0 + 0 + 1) / 4)
    assert found["dynamic_random"].middle == 0
    assert found["full_data, all visits"].middle == pytest.approx(10)
    # Means at 30 %: infobatch and ucb 82.5, dynamic random 81.5; at 50 % 81.25, 83.5 and 81.5.
    ranks = {agent: each.rank for agent, each in found.items() if each.rank is not None}
    assert ranks == {
        "ucb": pytest.approx((1.5 + 1) / 2),
        "infobatch": pytest.approx((1.5 + 3) / 2),
        "dynamic_random": pytest.approx((3 + 2) / 2),
    }


def test_who_lacks_a_setting_or_a_seed_or_spends_too_much_is_not_ranked(folder: Path) -> None:
    write(folder / "b" / "runs.json", [*rows("exp3", [0.9] * 3), *rows("exp3", [0.9] * 4, 0.3)])
    found = {each.agent: each for each in standings(by_agent(read_runs(folder)), "short clean")}
    for agent, settings in {"seta": 1, "exp3": 1, "forgetting": 2}.items():
        assert found[agent].rank is None
        assert found[agent].settings == settings
    assert found["forgetting"].over
    assert not found["seta"].over
    table = regime_table(by_agent(read_runs(folder)), "short clean")
    assert table is not None
    assert [row[:3] for row in table.rows[:3]] == [
        ["1", "ucb", "+1.50"],
        ["2", "infobatch", "+0.25"],
        ["3", "dynamic_random", "+0.00"],
    ]
    last = {row[1]: row[-1] for row in table.rows}
    assert (last["seta"], last["forgetting"]) == ("1 of 2", "2 of 2 †")


@pytest.mark.parametrize(
    ("env", "variant", "regimes"),
    [
        ("Digits", "", ("short clean", "MLP")),
        ("Digits", "data_seed=3, label_noise=0.0", ("short clean", "MLP")),
        ("Digits", "epochs=60, label_noise=0.4", ("long noisy", "MLP")),
        ("Planted", "", ("short noisy", "MLP")),  # its own labels are wrong
        ("CIFAR10Small", "train_size=10000", ("short clean", "other nets")),
        ("CIFAR10Small", "epochs=30, model=small_cnn(width=8)", ("long clean", "other nets")),
        ("CIFAR10", "", ("long clean", "other nets")),
        ("Digits", "imbalance=0.1, label_noise=0.2", ("imbalanced", "MLP")),
        ("Digits", "duplicates=0.5", ("duplicates", "MLP")),
        ("Digits", "label_noise=0.2, weights=raw", ()),
    ],
)
def test_a_setting_belongs_to_a_regime_by_its_kind_and_one_by_its_net(
    env: str, variant: str, regimes: tuple[str, ...]
) -> None:
    assert Game(f"DynPrune-{env}-v0", variant, 0.3).regimes == regimes


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"label_noise": 0.2, "train_size": 10_000, "compile": False, "averaging": None},
        {"model": "mlp(width=32, depth=3)", "epochs": 60, "weights": "raw"},
    ],
)
def test_a_variant_is_read_as_it_was_written(kwargs: dict[str, Any]) -> None:
    text = RunConfig(DIGITS, {**kwargs, "budget": 0.5}, "ucb", 0).variant
    assert parse_variant(text) == kwargs


@pytest.mark.parametrize("text", ["label_noise", "a b=3", "x=1, y"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a variant takes KEY=VALUE"):
        parse_variant(text)


def test_a_contributed_run_adds_a_row_and_replaces_none(folder: Path) -> None:
    mine = [*rows("mine:Agent", [0.9] * 4), *rows("mine:Agent", [0.9] * 4, 0.3)]
    mine += rows("dynamic_random", [0.1] * 4)  # as a sweep plays it again elsewhere
    write(folder / "contributed" / "me" / "runs.json", mine)
    write(folder / "z" / "runs.json", rows("static_random", [0.8] * 4))
    found = {each.agent: each for each in standings(by_agent(read_runs(folder)), "short clean")}
    assert found["mine:Agent"].rank == pytest.approx(1)
    assert found["ucb"].middle == pytest.approx(1.5)


def test_a_file_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "runs.json", [[DIGITS, "", 0.5, 0, 0.9, 0.5]], COLUMNS[:2] + COLUMNS[3:])
    with pytest.raises(ValueError, match="lacks the columns agent"):
        read_runs(tmp_path)


def test_the_best_epoch_of_full_data_and_the_oracle_stand_beside_the_ranked(tmp_path: Path) -> None:
    columns = (*COLUMNS, "best_epoch_accuracy", "selection")
    variant = "epochs=60, label_noise=0.4"
    told = f"{leaderboard.ORACLE}(label_noise=0.4)"
    played = {
        ("dynamic_random", 0.5): (0.70, 0.75),
        ("ucb", 0.5): (0.60, 0.76),
        (told, 0.5): (0.80, 0.80),
        ("full_data", 1.0): (0.65, 0.78),
    }
    write(
        tmp_path / "runs.json",
        [
            [DIGITS, variant, agent, budget, 0, last, 1 - budget, best, 0.004]
            for (agent, budget), (last, best) in played.items()
        ],
        columns,
    )
    found = {each.agent: each for each in standings(by_agent(read_runs(tmp_path)), "long noisy")}
    assert {agent: round(each.middle, 6) for agent, each in found.items()} == {
        "dynamic_random": 0,
        "ucb": -10,
        "oracle": 10,
        "full_data, all visits": -5,
        "full_data, all visits, best epoch": 8,
    }
    assert {agent for agent, each in found.items() if each.rank is not None} == {
        "dynamic_random",
        "ucb",
    }
    assert found["ucb"].selection == pytest.approx(4)


def test_runs_made_small_hold_what_the_leaderboard_needs_and_a_row_replays(
    tmp_path: Path,
) -> None:
    kwargs = {"train_size": 100, "epochs": 4, "budget": 0.5, "label_noise": 0.4}
    results = []
    for spec, budget in (("dynamic_random", 0.5), ("ucb(c=2.0)", 0.5), ("full_data", 1.0)):
        agent = dynprune_agents.make(spec)
        own = {**kwargs, "budget": budget}
        results += run_episodes(DIGITS, agent, [0, 1], env_kwargs=own, best_epoch=True)
    assert compact(results, tmp_path / "new" / "runs.json") == 6
    runs = read_runs(tmp_path)
    by_seed = {run.seed: run for run in runs if run.agent == "ucb(c=2.0)"}
    for result in results[2:4]:
        run = by_seed[result.config.seed]
        assert result.best_epoch is not None
        assert run.accuracy == round(result.test_accuracy, 4)
        assert run.best_epoch_accuracy == round(result.best_epoch.test_accuracy, 4)
        assert run.selection == pytest.approx(result.seconds["select"] / 4, abs=1e-6)
    for agent in ("ucb(c=2.0)", leaderboard.ALL_VISITS, leaderboard.STOPPED):
        assert replay(runs, agent, "short noisy", None) == pytest.approx([0, 0], abs=1e-9)
    assert len(replay(runs, "ucb(c=2.0)", "MLP", 1)) == 1
    with pytest.raises(ValueError, match="no committed run of 'seta' belongs to 'MLP'"):
        replay(runs, "seta", "MLP", None)


def test_the_committed_runs_rank_dynamic_random_and_the_bandits() -> None:
    found = standings(by_agent(read_runs()), "short noisy")
    assert {"dynamic_random", "ucb"} <= {each.agent for each in found if each.rank is not None}


def test_committed_runs_say_which_machine_made_each(tmp_path: Path) -> None:
    kwargs = {"budget": 0.5, "train_size": 60, "epochs": 2, "model": "mlp(width=4)"}
    first, second = run_episodes(
        DIGITS, dynprune_agents.make("dynamic_random"), [0, 1], env_kwargs=kwargs
    )
    compact([first, replace(second, device="NVIDIA H100")], tmp_path / "runs.json")
    assert [each.device for each in expand_runs.expand(tmp_path / "runs.json")] == [
        "cpu",
        "NVIDIA H100",
    ]
    content = json.loads((tmp_path / "runs.json").read_text())
    del content["origins"]  # as files were that did not say it
    content |= {"device": ["NVIDIA H100", "cpu"], "machine": ["None", "x"], "commit": ["a"]}
    content["versions"] = first.versions
    content["columns"].pop()
    for row in content["rows"]:
        row.pop()
    (tmp_path / "old.json").write_text(json.dumps(content))
    for each in expand_runs.expand(tmp_path / "old.json"):
        assert (each.device, each.machine) == ("NVIDIA H100 or cpu", "None or x")
        assert (each.commit, each.versions) == ("a", first.versions)


def test_committed_runs_become_result_files_of_the_same_runs_again(tmp_path: Path) -> None:
    kwargs = {"budget": 0.5, "train_size": 60, "epochs": 2, "model": "mlp(width=4)"}
    results = run_episodes(
        DIGITS, dynprune_agents.make("dynamic_random"), [0, 1], env_kwargs=kwargs, best_epoch=True
    )
    compact(results, tmp_path / "runs.json")
    compact(results, tmp_path / "runs.json.gz")
    plain, packed = (list(expand_runs.expand(tmp_path / f"runs.json{end}")) for end in ("", ".gz"))
    assert plain == packed
    expand_runs.main(tmp_path / "runs.json", tmp_path / "results")
    again = {result.config.key: result for result in load_results([tmp_path / "results"])}
    for result in results:
        other = again[result.config.key]
        assert (other.config, other.num_samples, other.visits) == (result.config, 60, 60)
        assert other.test_accuracy == pytest.approx(result.test_accuracy, abs=5e-5)
        assert (other.device, other.machine) == (result.device, result.machine)
        assert (other.commit, other.versions) == (result.commit, result.versions)
    compact(again.values(), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "runs.json").read_text()


# -- the commands --------------------------------------------------------------------------------


def refused(script: ModuleType, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a script, which should end with the code 2."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *arguments])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script.__file__), run_name="__main__")
    assert done.value.code == 2


DAMAGED: dict[str, bytes] = {
    "cut": b'{"columns": ["env"',
    "no text": b"\xff\xfe",
    "no object": b"[]",
    "without rows": json.dumps({"columns": COLUMNS}).encode(),
    "with a short row": json.dumps({"columns": COLUMNS, "rows": [[DIGITS]]}).encode(),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_of_runs_is_named_in_one_sentence(what: str, tmp_path: Path) -> None:
    (tmp_path / "runs.json").write_bytes(DAMAGED[what])
    (tmp_path / "runs.json.gz").write_bytes(DAMAGED[what])
    for name in ("runs.json", "runs.json.gz"):
        with pytest.raises(ValueError, match="is no file of benchmarks") as error:
            read_rows(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_a_leaderboard_of_no_runs_is_refused_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "leaderboard.md"
    out.write_text("the old one")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "good" / "runs.json", rows("ucb", [0.5]))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "runs.json").write_text("{")
    no_row = ["--replay", "nope", "--regime", "MLP"]
    for folder, more, said in (
        ("none", [], f"there is no folder {tmp_path / 'none'}"),
        ("empty", [], f"there are no runs in files runs*.json below {tmp_path / 'empty'}"),
        ("bad", [], f"{tmp_path / 'bad' / 'runs.json'} is no file of"),
        ("good", no_row, "no committed run of 'nope' belongs to 'MLP'"),
    ):
        arguments = ["--results", str(tmp_path / folder), "--out", str(out), *more]
        refused(leaderboard, *arguments, monkeypatch=monkeypatch)
        error = capsys.readouterr().err
        assert error.startswith(f"error: {said}")
        assert error.count("\n") == 1
    assert out.read_text() == "the old one"


def test_no_results_are_not_written_over_committed_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs.json"
    out.write_text("the old ones")
    (tmp_path / "empty").mkdir()
    for folder, said in (("none", "there is no folder"), ("empty", "there are no results to")):
        refused(compact_runs, str(tmp_path / folder), str(out), monkeypatch=monkeypatch)
        assert capsys.readouterr().err.startswith(f"error: {said}")
    assert out.read_text() == "the old ones"
