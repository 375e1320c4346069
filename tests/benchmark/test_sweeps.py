"""Sweeps are read from TOML with clear errors, and those that ship hold what they promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.command import call, results
from typer.testing import CliRunner

import dynprune_agents
from benchmarks.learned.long_study import find_parts
from benchmarks.learned.tables import all_groups
from dynprune_agents.cli import app as cli
from dynprune_env.benchmark.sweeps import Sweep, cost, load_sweep, names

FILE = """
description = "Mine."
envs = ["DynPrune-Digits-v0", "DynPrune-Planted-v0"]
agents = ["ucb", "ucb(c=2.0)"]
budgets = [0.6, 1]
seeds = 3
seed = 5
variants = [{}, { label_noise = 0.2 }]
[env_kwargs]
epochs = 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path := tmp_path / "mine.toml").write_text(FILE)
    return path


def test_a_file_says_what_is_played(file: Path) -> None:
    sweep = load_sweep(str(file))
    assert sweep.seeds == (5, 6, 7)
    groups = sweep.groups(sweep.agents)
    assert len(groups) == 2 * 2 * (2 * 2 + 1)  # full data at budget 1 in every task
    assert {group.seeds for group in groups} == {(5, 6, 7)}
    assert {group.env_kwargs.get("label_noise") for group in groups} == {None, 0.2}
    assert all(group.env_kwargs["epochs"] == 4 for group in groups)
    assert len({group.key for group in groups}) == len(groups)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds = ", "is not a sweep"),
        ("seed = 'a'", "seed: 'a' is not int"),
        ("seeds = 0", "seeds is how many, at least 1"),
        ("agent = ['ucb']", "unknown key 'agent'; there are envs, agents"),
        ("agents = 'ucb'", "agents is a list that is not empty"),
        ("agents = []", "agents is a list that is not empty"),
        ("agents = [1]", "agents: 1 is not text"),
        ("budgets = [true]", "budgets: True is not float"),
        ("variants = [1]", "variants: 1 is not a table"),
        ("variants = [{ budget = 1 }]", "use budgets"),
        ("env_kwargs = 3", "env_kwargs: 3 is not a table"),
    ],
)
def test_a_mistake_in_a_file_is_named(text: str, expected: str, tmp_path: Path) -> None:
    (path := tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.toml is not a sweep") as error:
        load_sweep(str(path))
    assert expected in str(error.value)


def test_an_unknown_sweep_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="no sweep is called 'digit'; there are cifar10-long, "):
        load_sweep("digit")
    with pytest.raises(FileNotFoundError, match=r"there is no file none\.toml"):
        load_sweep("none.toml")


@pytest.mark.parametrize("name", names())
def test_a_shipped_sweep_names_agents_and_arguments_that_exist(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.description
    agents = [repr(dynprune_agents.make(spec)) for spec in sweep.agents]
    assert agents == list(sweep.agents)  # spelt as the results will have them
    assert len(sweep.groups(agents or ["ucb"])) > 1
    assert sweep.scaled(0.1).groups(agents or ["ucb"])


def test_the_papers_table_has_its_published_shape() -> None:
    groups = load_sweep("paper").groups(load_sweep("paper").agents, "cpu")
    assert {group.env for group in groups} == {"DynPrune-CIFAR10-v0", "DynPrune-CIFAR100-v0"}
    assert {group.env_kwargs["budget"] for group in groups} == {0.3, 0.5, 0.7, 1.0}
    assert {frozenset(group.env_kwargs) for group in groups} == {frozenset({"budget"})}
    assert cost(groups[-1]) == 200 * 45_000  # one seed of full data, with the task's own ResNet-18


def test_the_long_sweep_on_cifar10_plays_all_samples_with_three_seeds_at_three_budgets() -> None:
    sweep = load_sweep("cifar10-long")
    assert {"static_random", "dynamic_random", "epsilon_greedy", "ucb", "infobatch", "seta"} < {
        *sweep.agents
    }
    groups = sweep.groups(sweep.agents, "cpu")
    assert {group.env for group in groups} == {"DynPrune-CIFAR10Small-v0"}
    assert {group.env_kwargs["budget"] for group in groups} == {0.3, 0.5, 0.7, 1.0}
    assert cost(groups[-1]) == 30 * 45_000
    assert len(groups) == 3 * (3 * len(sweep.agents) + 1)


def test_the_long_sweep_on_fashion_mnist_is_that_part_of_the_long_study() -> None:
    sweep = load_sweep("fashion-mnist-long")
    groups = sweep.groups(sweep.agents)
    (part,) = find_parts(["fashion-mnist"])
    agents = [agent for agent in part.agents(["learned"]) if agent in sweep.agents]
    assert set(agents) == set(sweep.agents)
    studied = all_groups(part.settings(), agents, part.together)
    assert {group.key for group in groups} == {group.key for group in studied}


def test_a_scaled_sweep_keeps_its_shape() -> None:
    whole = load_sweep("paper")
    short = whole.scaled(0.1)
    groups, few = whole.groups(whole.agents), short.groups(short.agents)

    def shape(groups: list) -> set:
        return {(group.env, group.agent, group.env_kwargs["budget"]) for group in groups}

    assert shape(few) == shape(groups)
    assert {group.env_kwargs["epochs"] for group in few} == {20}
    assert {group.env_kwargs["model"] for group in few} == {"resnet9"}
    assert len(few) * 5 == len(groups)  # one seed instead of five
    half = whole.scaled(0.5)
    assert "model" not in half.env_kwargs
    assert half.env_kwargs["epochs"] == 100
    assert whole.scaled(1) == whole
    for scale in (0, 1.5):
        with pytest.raises(ValueError, match="--scale is in"):
            whole.scaled(scale)
    with pytest.raises(ValueError, match="equally many epochs"):
        Sweep(envs=("DynPrune-CIFAR10-v0", "DynPrune-Digits-v0")).scaled(0.1)


def test_the_epochs_of_variants_are_scaled_too() -> None:
    variants = ({}, {"epochs": 40, "label_noise": 0.2}, {"epochs": 3})
    short = Sweep(env_kwargs={"epochs": 10}, variants=variants).scaled(0.5)
    assert short.env_kwargs == {"epochs": 5}
    assert short.variants == ({}, {"epochs": 20, "label_noise": 0.2}, {"epochs": 2})
    with pytest.raises(ValueError, match="epochs is int or None, got 'many'"):
        Sweep(variants=({"epochs": "many"},)).scaled(0.5)


def test_what_is_named_twice_is_one_group() -> None:
    once = Sweep(budgets=(0.3, 1.0)).groups(["ucb", "full_data"])
    twice = Sweep(
        envs=("DynPrune-Digits-v0",) * 2, budgets=(0.3, 1, 0.30, 1.0), variants=({}, {})
    ).groups(["ucb", "full_data", "ucb"])
    assert [group.key for group in twice] == [group.key for group in once]


def test_keyword_arguments_win_over_variants() -> None:
    noise = load_sweep("noise")
    assert noise.varied("label_noise", [0.1, 0.1]) == noise.with_kwargs({"label_noise": 0.1})
    assert noise.varied("label_noise", []) == noise
    both = replace(noise, variants=({"train_size": 90}, {"label_noise": 0.2}))
    assert both.varied("label_noise", [0.0, 0.4]).variants == (
        {"train_size": 90, "label_noise": 0.0},
        {"train_size": 90, "label_noise": 0.4},
        {"label_noise": 0.0},
        {"label_noise": 0.4},
    )
    sweep = load_sweep("noise").with_kwargs({"label_noise": 0.1, "epochs": 3})
    assert sweep.variants == ({},)
    assert sweep.env_kwargs == {"label_noise": 0.1, "epochs": 3}


# -- the command -------------------------------------------------------------------------------


def test_bench_plays_a_file_and_options_replace_what_it_says(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--seeds", "2", "--agents", "ucb", "--env", "DynPrune-Digits-v0"]
    small = ["--env-kwargs", "train_size=60", "--jobs", "1", "--device", "cpu"]
    call("bench", "mine.toml", *options, *small, "--scale", "0.5")
    configs = [result.config for result in results()]
    assert {config.seed for config in configs} == {5}
    assert {config.agent for config in configs} == {"ucb", "full_data"}
    assert {config.env_kwargs["epochs"] for config in configs} == {2}
    assert {config.variant for config in configs} == {
        "epochs=2, train_size=60",
        "epochs=2, label_noise=0.2, train_size=60",
    }


def test_bench_counts_what_is_named_twice_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    twice = ["--budgets", "0.3", "--budgets", "0.30"] + 2 * ["--agents", "dynamic_random"]
    twice += 2 * ["--env", "DynPrune-Digits-v0"]
    small = ["--env-kwargs", "train_size=60", "--env-kwargs", "epochs=2", "--seeds", "1"]
    text = call("bench", *twice, *small, "--jobs", "1", "--device", "cpu").output
    assert "2 of 2 done" in text  # dynamic random, and full data as the reference


def test_sweeps_lists_those_that_ship() -> None:
    text = call("sweeps").output
    assert all(name in text for name in names())
    assert {"quick", "digits", "noise", "fashion-mnist", "cifar10-small", "paper"} <= set(names())


def test_an_unknown_backend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["bench", "--agents", "ucb", "--seeds", "1", "--backend", "dask"]
    result = CliRunner().invoke(cli.app, command)
    assert "backend is one of loky, ray, got 'dask'" in str(result.exception)
