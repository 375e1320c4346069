"""Runs are recorded truly, kept safely and never repeated; on data with known answers they win."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from helpers.episodes import make, run_script
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_env.benchmark import warming
from dynprune_env.benchmark.episodes import RunGroup, run_episodes
from dynprune_env.benchmark.index import load_runs
from dynprune_env.benchmark.recording import mean_ranks
from dynprune_env.benchmark.results import FLOATS, HISTORY, Result, RunConfig, load_results
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.benchmark.sweeps import plan_groups
from dynprune_env.common import files
from dynprune_env.common.provenance import LIBRARIES
from dynprune_env.envs.settings import Settings
from dynprune_env.report.summary import Row, summarize
from dynprune_env.tasks.registry import TASKS
from dynprune_env.tasks.variants import load_dataset

DIGITS = "DynPrune-Digits-v0"
SMALL: dict[str, Any] = {"train_size": 60, "epochs": 3}


def play(agent: str | Agent = "dynamic_random", seeds: Any = (0,), **kwargs: Any) -> list[Result]:
    player = dynprune_agents.make(agent) if isinstance(agent, str) else agent
    return run_episodes(DIGITS, player, seeds, env_kwargs={**SMALL, **kwargs}, device="cpu")


def numbers(result: Result) -> dict[str, Any]:
    """What decides a table; neither the clock nor the replica_seeds."""
    content = asdict(result)
    for name in ("seconds", "replicas", "replica_seeds"):
        del content[name]
    del content["history"]["seconds"]
    return content


@pytest.fixture(scope="module")
def finished() -> Result:
    return play("ucb(c=2.0)", budget=0.7)[0]


# -- one run -----------------------------------------------------------------------------------


def test_a_result_says_what_happened_in_every_epoch(finished: Result) -> None:
    assert finished.config == RunConfig(DIGITS, {**SMALL, "budget": 0.7}, "ucb(c=2.0)", 0)
    assert (finished.num_samples, finished.epochs, finished.replicas) == (60, 3, 1)
    history = finished.history
    assert set(history) == set(HISTORY)
    assert {len(column) for column in history.values()} == {3}
    assert history["kept"] == [60, 33, 33]  # a full epoch, and 126 - 60 in two
    assert history["visits"] == [60, 93, 126]
    assert history["spent"] == pytest.approx([60 / 126, 93 / 126, 1])
    assert np.diff(history["val_loss"]) == pytest.approx(-np.array(history["reward"][1:]))
    assert (finished.visits, finished.scored, finished.preparation) == (126, 0, 0)
    assert finished.saved == pytest.approx(0.3)
    assert not finished.diverged


def test_a_result_says_where_and_with_what_it_was_made(finished: Result) -> None:
    assert set(finished.versions) == {"python", "dynprune", *LIBRARIES}
    assert torch.__version__.startswith(finished.versions["torch"])
    assert finished.device == "cpu"
    parts = {name: value for name, value in finished.seconds.items() if name != "total"}
    assert all(value >= 0 for value in parts.values())
    assert 0 < sum(parts.values()) <= finished.seconds["total"]
    assert sum(finished.history["seconds"]) <= finished.seconds["total"]


def test_the_test_numbers_are_those_of_the_final_model(finished: Result) -> None:
    env = make(**SMALL, batch_size=64, budget=0.7)
    agent = dynprune_agents.make("ucb(c=2.0)")
    observation, _ = env.reset(seed=0)
    agent.reset(env.episode(0))
    terminated = False
    while not terminated:
        observation, _, terminated, _, info = env.step(agent.select(observation))
    expected = env.evaluate("test")
    assert finished.test_loss == pytest.approx(expected.loss, rel=1e-5)
    assert finished.test_accuracy == pytest.approx(expected.accuracy)
    assert finished.history["val_loss"][-1] == pytest.approx(info["val_loss"], rel=1e-5)


def test_progress_is_told_after_every_epoch() -> None:
    messages = []
    run_episodes(
        DIGITS,
        dynprune_agents.make("full_data"),
        [0, 1],
        env_kwargs={**SMALL, "budget": 1.0},
        device="cpu",
        on_epoch=messages.append,
    )
    assert [done.tolist() for done in messages] == [[pytest.approx(t / 3)] * 2 for t in (1, 2, 3)]


@pytest.mark.filterwarnings("ignore:.* spend the whole budget")
@pytest.mark.parametrize("agent", ["dynamic_random", "epsilon_greedy", "infobatch", "el2n"])
def test_a_seed_gives_the_same_run_alone_and_in_company(agent: str) -> None:
    alone, together = play(agent, [4]), play(agent, [3, 4, 5])
    assert [result.config.seed for result in together] == [3, 4, 5]
    # Stacked matrix products round differently from single ones.
    found, expected = numbers(together[1]), numbers(alone[0])
    assert found.pop("selections") == expected.pop("selections")
    columns, history = found.pop("history"), expected.pop("history")
    for name in HISTORY:
        if name != "seconds":
            assert columns[name] == pytest.approx(history[name], rel=1e-4, abs=1e-4), name
    for name in ("test_loss", "test_accuracy", "saved"):
        assert found.pop(name) == pytest.approx(expected.pop(name), rel=1e-4)
    assert found == expected
    assert together[0].test_loss != together[1].test_loss


def test_runs_that_end_at_different_times_have_histories_of_their_own_length() -> None:
    @dataclass
    class Unequal(Agent):
        """Row 0 keeps everything, row 1 a quarter."""

        def select(self, observation: Any) -> np.ndarray:
            keep = np.ones(observation["loss"].shape, dtype=bool)
            keep[1, 15:] = False
            return keep

    fast, slow = play(Unequal(), [0, 1], budget=0.5)
    assert fast.history["kept"] == [60, 30]
    assert slow.history["kept"] == [15, 15, 15]
    assert (fast.visits, slow.visits) == (90, 45)
    assert (fast.saved, slow.saved) == pytest.approx((0.5, 0.75))
    assert fast.seconds["total"] == pytest.approx(2 * slow.seconds["total"])


def test_a_diverged_run_is_finite_says_so_and_can_be_saved(tmp_path: Path) -> None:
    (result,) = play("full_data", learning_rate=1e12, budget=1.0)
    assert result.diverged
    assert Result.load(result.save(tmp_path)) == result
    assert math.isfinite(result.test_loss)


# -- one file ----------------------------------------------------------------------------------


def test_a_saved_result_is_read_back_the_same(finished: Result, tmp_path: Path) -> None:
    path = finished.save(tmp_path / "new" / "folder")
    assert path.name == f"{finished.config.key}.json"
    assert Result.load(path) == finished

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)


def test_the_key_is_the_configuration_and_nothing_else() -> None:
    config = RunConfig(DIGITS, {"budget": 1, "epochs": 3}, "ucb", 0)
    assert config.key == RunConfig(DIGITS, {"epochs": 3, "budget": 1.0}, "ucb", 0).key
    others = [
        replace(config, env="DynPrune-Planted-v0"),
        replace(config, agent="ucb(c=2.0)"),
        replace(config, seed=1),
        replace(config, env_kwargs={"budget": 1, "epochs": 4}),
        replace(config, env_kwargs={"budget": 1}),
    ]
    assert len({config.key, *(other.key for other in others)}) == 6


def test_the_same_number_is_the_same_run_however_it_is_spelled() -> None:
    hints = get_type_hints(Settings)
    floats = {name for name, hint in hints.items() if float in (hint, *get_args(hint))}
    assert floats == FLOATS | {"budget"}
    for name in floats:
        configs = [
            RunConfig(DIGITS, {"budget": 1, "epochs": 20, name: one}, "ucb", 0)
            for one in (1, 1.0, np.int64(1), np.float32(1))
        ]
        assert len({config.key for config in configs}) == 1
        assert len({config.variant for config in configs}) == 1
        assert type(configs[0].env_kwargs[name]) is float
    assert type(configs[0].env_kwargs["epochs"]) is int
    given = RunConfig(DIGITS, {"budget": 0.5, "label_noise": 0.2}, "ucb", 0)
    assert given.key == "30e4dc196e998cd2"  # as results have it
    assert given.other_keys == []


@pytest.mark.parametrize("where", ["write", "rename"])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    where: str, finished: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *_: Any, **__: Any) -> None:
        if where == "write":
            self.write_bytes(b'{"half')
        raise OSError("no space left")

    path = finished.save(tmp_path)
    before = path.read_text()
    owner, name = (Path, "write_text") if where == "write" else (files.os, "replace")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(OSError, match="no space left"):
            replace(finished, visits=1).save(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"on_epoch": 3}, "on_epoch is a function of the progress, got 3"),
        ({"checkpoint": "x.pt"}, "checkpoint is a Checkpoint, got 'x.pt'"),
        ({"env_kwargs": [1]}, r"env_kwargs is a dict, got \[1\]"),
    ],
)
def test_what_is_used_late_is_checked_at_once(given: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        run_episodes("DynPrune-Digits-v0", dynprune_agents.make("ucb"), [0], **given)


def test_a_module_in_front_of_an_id_is_no_part_of_a_run(finished: Result) -> None:
    config = finished.config
    named = f"dynprune_env:{config.env}"
    assert replace(config, env=named) == config
    agent = dynprune_agents.make(config.agent)
    kwargs = config.env_kwargs
    (again, *_) = run_episodes(named, agent, [config.seed], env_kwargs=kwargs, device="cpu")
    assert again.config.key == config.key
    assert again.fingerprint == finished.fingerprint
    group, other = (
        RunGroup(env, kwargs, config.agent, (0, 1)) for env in (config.env, f"mine:{config.env}")
    )
    assert group.key == other.key
    assert group.configs() == other.configs()


def test_what_json_cannot_say_is_not_written(finished: Result, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        replace(finished, test_loss=math.nan).save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b"{}", b'{"schema": 1}', b'{"schema": 0}', b"\xff\xfe"],
)
def test_a_foreign_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.json is not a dynprune result file"):
        list(load_results([tmp_path]))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("visits"),
        lambda content: content.update(unknown=1),
        lambda content: content.update(config=[]),
        lambda content: content["config"].pop("agent"),
        lambda content: content["config"]["env_kwargs"].pop("budget"),
        lambda content: content["history"].pop("reward"),
        lambda content: content["history"].update(unknown=[]),
    ],
)
def test_a_result_with_other_fields_is_refused_by_name(
    change: Callable[[dict[str, Any]], Any], finished: Result, tmp_path: Path
) -> None:
    path = finished.save(tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{path.name} is not a dynprune result file"):
        Result.load(path)


def deflated(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    ("selections", "wrong"),
    [
        ("", "are not"),
        ("?", "cannot be read"),
        (base64.b64encode(b"no zlib").decode(), "cannot be read"),
        (deflated(b"x"), "are not"),
        (deflated(bytes(1 << 26)), "are not"),
        (deflated(bytes(1 << 26))[:1000], "are not"),
    ],
)
def test_selections_that_are_none_are_refused_by_name_and_fill_no_memory(
    selections: str, wrong: str, finished: Result, tmp_path: Path
) -> None:
    path = replace(finished, selections=selections).save(tmp_path)
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"{path.name} is not a dynprune .*selections {wrong}"):
        Result.load(path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_masks_of_absurdly_many_samples_are_refused_unread(
    finished: Result, tmp_path: Path
) -> None:
    path = replace(finished, num_samples=1 << 40).save(tmp_path)
    with pytest.raises(ValueError, match="selections are of more than"):
        Result.load(path)


def test_a_whole_number_beyond_the_floats_is_refused_by_name(
    finished: Result, tmp_path: Path
) -> None:
    path = finished.save(tmp_path)
    content = json.loads(path.read_text())
    content["config"]["env_kwargs"]["budget"] = 10**400
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{path.name} is not a dynprune result file"):
        Result.load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 100_000}, r"its threads is a whole number in \[1, 1024\], got 100000"),
        ({"threads": 0}, r"its threads is a whole number in \[1, 1024\], got 0"),
        ({"replica_seeds": [999]}, r"its seed \d+ is none of its replica seeds \[999\]"),
        ({"replica_seeds": [0, 0]}, "seeds holds none twice"),
        ({"replica_seeds": [-1]}, "a seed is a whole number of at least 0, got -1"),
        ({"replica_seeds": []}, r"replica seeds is a whole number in \[1, 100000\], got 0"),
        ({"replica_seeds": list(range(100_001))}, r"\[1, 100000\], got 100001"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_threads_and_replica_seeds_that_cannot_be_played_are_refused_by_name(
    change: dict[str, Any], said: str, finished: Result, tmp_path: Path
) -> None:
    path = replace(finished, **change).save(tmp_path)
    with pytest.raises(ValueError, match=rf"{path.name} is not a dynprune result file: .*{said}"):
        Result.load(path)


def test_results_of_several_folders_are_read_once_each(finished: Result, tmp_path: Path) -> None:
    other = replace(finished, config=replace(finished.config, seed=7), replica_seeds=[7])
    for folder, results in (("a", [finished, other]), ("b", [other])):
        for result in results:
            result.save(tmp_path / folder)
    (tmp_path / "a" / ".x.json.1234.partial").write_text("{")
    (tmp_path / "a" / "table.md").write_text("no result")
    found = list(load_results([tmp_path / "a", tmp_path / "b"]))
    assert sorted(result.config.seed for result in found) == [0, 7]
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        list(load_results([tmp_path / "nowhere"]))


# -- a sweep -----------------------------------------------------------------------------------


def test_every_agent_meets_every_budget_and_full_data_is_the_reference() -> None:
    groups = plan_groups(DIGITS, ["ucb", "full_data"], [0.5, 0.3], range(3), SMALL)
    assert [(group.agent, group.env_kwargs["budget"]) for group in groups] == [
        ("ucb", 0.3),
        ("full_data", 0.3),
        ("ucb", 0.5),
        ("full_data", 0.5),
        ("full_data", 1.0),
    ]
    assert all(group.seeds == (0, 1, 2) for group in groups)
    assert len({config.key for group in groups for config in group.configs()}) == 15
    assert len(plan_groups(DIGITS, ["full_data"], [1], range(3), {})) == 1


def test_seeds_of_large_nets_are_cells_of_their_own() -> None:
    small_nets = {"CIFAR10Small": {"model": "mlp(width=8)"}, "CIFAR10": {}}
    sizes = {
        task: [
            len(group.seeds)
            for group in plan_groups(f"DynPrune-{task}-v0", [], [], (0, 1), kwargs, "cpu")
        ]
        for task, kwargs in small_nets.items()
    }
    assert sizes == {"CIFAR10Small": [2], "CIFAR10": [1, 1]}


@dataclass
class Broken(DynamicRandom):
    """Fails in its second epoch."""

    def select(self, observation: Any) -> np.ndarray:
        if self.epoch(observation) == 1:
            raise RuntimeError("a mistake in the rule")
        return super().select(observation)


def cells_of(*agents: str, seeds: tuple[int, ...] = (0, 1)) -> list[RunGroup]:
    return [RunGroup(DIGITS, {**SMALL, "budget": 0.5}, agent, seeds) for agent in agents]


def test_a_sweep_goes_on_where_it_was_and_repeats_nothing(tmp_path: Path) -> None:
    groups = cells_of("ucb", "static_random")
    outcomes = list(run_sweep(groups, dynprune_agents.make, tmp_path))
    assert [(each.group, each.runs, each.error, len(each.results)) for each in outcomes] == [
        (c, 2, None, 2) for c in groups
    ]
    first = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(first) == {f"{config.key}.json" for group in groups for config in group.configs()}

    lost = tmp_path / f"{groups[1].configs()[0].key}.json"
    expected = numbers(Result.load(lost))
    lost.unlink()
    wider = [*groups, *cells_of("full_data", seeds=(0,))]
    outcomes = list(run_sweep(wider, dynprune_agents.make, tmp_path))
    assert [each.error for each in outcomes] == [None] * 3
    played = {(each.group.agent, len(each.results)) for each in outcomes}
    assert played == {("ucb", 0), ("static_random", 1), ("full_data", 1)}
    kept = {name for name, text in first.items() if (tmp_path / name).read_text() == text}
    assert kept == set(first) - {lost.name}
    again = numbers(Result.load(lost))
    assert again["selections"] == expected["selections"]
    assert again["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-4)

    outcomes = list(run_sweep(wider, dynprune_agents.make, tmp_path))
    assert not any(each.results for each in outcomes)


def test_a_result_named_by_a_whole_number_is_found_and_read_once(tmp_path: Path) -> None:
    kwargs = {**SMALL, "budget": 0.5, "label_noise": 0, "imbalance": 1.0}
    group = RunGroup(DIGITS, kwargs, "static_random", (0,))
    (result,) = run_episodes(DIGITS, DynamicRandom(), (0,), env_kwargs=kwargs, device="cpu")
    path = replace(result, config=group.configs()[0]).save(tmp_path)
    content = json.loads(path.read_text())
    content["config"]["env_kwargs"]["label_noise"] = 0
    text = json.dumps(content["config"], sort_keys=True)
    spelled = path.with_stem(hashlib.sha256(text.encode()).hexdigest()[:16])
    spelled.write_text(json.dumps(content))
    assert spelled.name != path.name
    for load in (load_results, load_runs):
        assert [each.config for each in load([tmp_path])] == group.configs()  # of the two files
    path.unlink()
    for load in (load_results, load_runs):
        assert [each.config for each in load([tmp_path])] == group.configs()
    (outcome,) = run_sweep([group], dynprune_agents.make, tmp_path, accept_stale=True)
    assert outcome.results == ()  # nothing was played
    assert [each.name for each in tmp_path.glob("*.json")] == [path.name]


def test_a_broken_agent_is_reported_and_stops_nobody_else(tmp_path: Path) -> None:
    def make_agent(spec: str) -> Agent:
        return Broken() if spec == "broken" else dynprune_agents.make(spec)

    outcomes = list(run_sweep(cells_of("ucb", "broken", "uct", "full_data"), make_agent, tmp_path))
    errors = [outcome.error for outcome in outcomes]
    assert errors[0] is errors[3] is None
    assert errors[1] == "RuntimeError: a mistake in the rule"
    assert "no agent is called 'uct'" in errors[2]
    assert {result.config.agent for result in load_results([tmp_path])} == {"ucb", "full_data"}


def test_two_processes_give_the_same_results_as_one(tmp_path: Path) -> None:
    groups = cells_of("dynamic_random", "epsilon_greedy", "uct")
    found = {}
    for jobs in (1, 2):
        outcomes = list(run_sweep(groups, dynprune_agents.make, tmp_path / f"{jobs}", jobs=jobs))
        assert [each.group.agent for each in outcomes if each.error] == ["uct"]
        assert len(outcomes) == 3
        found[jobs] = [numbers(result) for result in load_results([tmp_path / f"{jobs}"])]
    assert len(found[1]) == 4
    assert found[1] == found[2]


# -- known answers -----------------------------------------------------------------------------


@dataclass
class Oracle(Agent):
    """Keeps what is known to be informative in the planted data, or exactly the rest."""

    informative: bool = True

    def select(self, observation: Any) -> np.ndarray:
        planted = TASKS["Planted"]
        dataset = load_dataset(planted.info, planted.variant, None, True, torch.device("cpu"))
        keep = ~dataset.redrawn if self.informative else dataset.redrawn
        return np.broadcast_to(keep, observation["loss"].shape)


def row_of(env: str, agent: Agent, budget: float) -> Row:
    (row,) = summarize(
        run_episodes(env, agent, range(10), env_kwargs={"budget": budget}, device="cpu")
    )
    return row


def test_on_planted_data_the_oracle_beats_chance_and_chance_beats_the_noise() -> None:
    oracle, chance, noise = (
        row_of("DynPrune-Planted-v0", agent, 0.2)
        for agent in (Oracle(), DynamicRandom(), Oracle(informative=False))
    )
    assert oracle.low > chance.high
    assert chance.low > noise.high
    assert oracle.accuracy > 0.9


def test_on_digits_a_fresh_random_subset_beats_a_fixed_one() -> None:
    dynamic, static = (
        row_of(DIGITS, dynprune_agents.make(f"{kind}_random"), 0.3)
        for kind in ("dynamic", "static")
    )
    assert dynamic.low > static.high


# -- seconds -----------------------------------------------------------------------------------


def test_what_a_process_loads_once_is_in_no_runs_seconds() -> None:
    script = (
        "import dynprune_agents\nfrom dynprune_env.benchmark.episodes import run_episodes\n"
        f"def play(): return run_episodes('{DIGITS}', dynprune_agents.make('es'), [0, 1],\n"
        "    env_kwargs={'train_size': 60, 'epochs': 3}, device='cpu')[0].seconds['total']\n"
        "print(play(), min(play() for _ in range(3)))"
    )
    first, later = map(float, run_script(script).split())
    assert first < later + 0.2  # it was 1.2 seconds more


def test_a_process_warms_up_once_for_an_agent_and_no_number_depends_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def fail(game: Any, agent: Any) -> None:
        asked.append(agent)
        raise RuntimeError("that is no error of the run")

    monkeypatch.setattr(warming, "_done", set())
    ucb = dynprune_agents.make("ucb")
    warm = play(ucb)[0]
    assert numbers(play(ucb)[0]) == numbers(warm)
    monkeypatch.setattr(warming, "_done", set())
    monkeypatch.setattr(warming, "_play", fail)
    assert numbers(play(ucb)[0]) == numbers(play("ucb")[0]) == numbers(warm)
    assert [type(each) for each in asked] == [type(ucb)]
    assert asked[0] is not ucb


def test_an_agent_of_ones_own_is_asked_for_its_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    @dataclass
    class Noting(DynamicRandom):
        """Keeps a record of what it is asked."""

        def select(self, observation: Any) -> np.ndarray:
            asked.append(observation["loss"].shape)
            return super().select(observation)

    monkeypatch.setattr(warming, "_done", set())
    play(Noting(), [0, 1])
    assert asked == [(2, 60)] * 3
    assert warming._done


# -- real data ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "kwargs", "accuracy"),
    [
        ("FashionMNIST", {"train_size": 5000}, 0.6),
        ("CIFAR100", {"train_size": 1000, "model": "mlp(width=32)"}, 0.015),
    ],
)
def test_one_epoch_on_real_images_learns_something(
    task: str, kwargs: dict[str, Any], accuracy: float, need_data: Callable[[str], None]
) -> None:
    need_data(task)
    kwargs = {"epochs": 1, "budget": 1.0, "download": False, **kwargs}
    agent = dynprune_agents.make("full_data")
    (result,) = run_episodes(f"DynPrune-{task}-v0", agent, [0], env_kwargs=kwargs, device="cpu")
    assert result.visits == kwargs["train_size"]
    assert not result.diverged
    assert result.test_accuracy > accuracy


@pytest.mark.slow
@pytest.mark.usefixtures("small_val")
def test_the_resnet_trains_an_epoch_on_cifar(need_data: Callable[[str], None]) -> None:
    need_data("CIFAR10")
    env = make(
        task="CIFAR10", train_size=500, epochs=1, batch_size=None, budget=1.0, download=False
    )
    env.reset(seed=0)
    observation, _, terminated, _, info = env.step(np.ones(500, dtype=bool))
    assert terminated
    assert info["run_visits"] == 500
    assert not info["diverged"]
    assert 0 < info["train_loss"] < 5
    assert (observation["visits"] == 1).all()


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 9)),
        elements=st.integers(-3, 3) | st.floats(width=32, allow_nan=False),
    )
)
def test_ranks_are_those_of_scipy(values: np.ndarray) -> None:
    np.testing.assert_array_equal(mean_ranks(values), rankdata(values, axis=-1))
