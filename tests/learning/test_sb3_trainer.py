"""Stable-Baselines3 trains on mixtures of tasks, and resumes as if nothing had happened."""

from __future__ import annotations

import json
import random
import zipfile
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynprune_agents.learning import sb3_algorithms, sb3_trainer
from dynprune_agents.learning.hyperparameters import OURS, checked_hyperparameters
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture
from dynprune_agents.learning.sb3_algorithms import ALGORITHMS
from dynprune_agents.learning.sb3_trainer import GROUP_SIZE, SB3Trainer
from dynprune_agents.learning.training import Plan, train
from dynprune_agents.policies._set_policy import SetPolicy
from dynprune_agents.policies.sb3 import SB3
from dynprune_env import run_episodes

DIGITS, PLANTED = "DynPrune-Digits-v0", "DynPrune-Planted-v0"
MIXTURE = Mixture(
    envs=(DIGITS, PLANTED),
    budgets=(0.3, 0.5),
    label_noise=(None, 0.2),
    vary={"epochs": [3, 4]},
    env_kwargs={"train_size": 60, "device": "cpu"},
)


def trainer(algo: str, observation: str, action: str, **settings: Any) -> SB3Trainer:
    defaults = {"num_envs": 2 if algo == "ars" else 4, "seed": 3}
    return SB3Trainer(
        algo, MIXTURE, observation=observation, action=action, **{**defaults, **settings}
    )


def parameters(made: SB3Trainer) -> list[torch.Tensor]:
    return [value.clone() for value in made.model.policy.state_dict().values()]


STOCK = [
    ("ppo", "samples", "mask"),
    ("ppo", "summary", "quantiles"),
    ("ppo", "run", "tilts"),
    ("a2c", "samples", "mask"),
    ("a2c", "summary", "strategy"),
    ("sac", "run", "tilts"),
    ("sac", "run", "weighted_tilts"),
    ("sac", "samples", "weights"),
    ("td3", "summary", "quantiles"),
    ("dqn", "summary", "strategy"),
]
CONTRIB = [
    ("trpo", "samples", "mask"),
    ("trpo", "run", "tilts"),
    ("tqc", "summary", "quantiles"),
    ("ars", "run", "tilts"),
    ("ars", "summary", "strategy"),
    ("ars", "run", "weights"),
]


def check_that_it_trains_and_resumes(
    tmp_path: Path, algo: str, observation: str, action: str
) -> None:
    undisturbed = trainer(algo, observation, action)
    before = parameters(undisturbed)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    logs = [undisturbed.advance() for _ in range(4)]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    for log in logs:
        assert all(np.isfinite(value) for value in log.values()), log
        assert log["episodes"] >= undisturbed.num_envs
    moved = [not torch.equal(*pair) for pair in zip(before, parameters(undisturbed), strict=True)]
    assert any(moved)

    first = trainer(algo, observation, action)
    for _ in range(2):
        first.advance()
    first.save_checkpoint(tmp_path)
    resumed = trainer(algo, observation, action)
    resumed.load_checkpoint(tmp_path)
    again = [resumed.advance() for _ in range(2)]
    assert [log["return"] for log in again] == [log["return"] for log in logs[2:]]
    for found, expected in zip(parameters(resumed), parameters(undisturbed), strict=True):
        assert torch.equal(found, expected)
    counts = [(made.segment, made.steps, made.visits) for made in (resumed, undisturbed)]
    assert counts[0] == counts[1]
    assert min(counts[0]) >= 4

    path = tmp_path / "policy.zip"
    resumed.save(path)
    resumed.save(path.with_suffix(".npz"))
    small = {"train_size": 60, "epochs": 3}
    played = []
    for agent in (
        SB3(str(path), trust=True),
        SB3(str(path.with_suffix(".npz"))),
        resumed.agent(),
    ):
        assert agent.env_kwargs == {"observation": observation, "action": action}
        results = run_episodes(DIGITS, agent, [0, 1], env_kwargs=small, device="cpu")
        assert results[0].visits > 0
        played.append([(result.test_loss, result.selections) for result in results])
    assert played[0] == played[1] == played[2]
    type(resumed.model).load(path, device="cpu")
    if observation == "summary" or action == "mask":
        assert path.stat().st_size < 100_000


@pytest.mark.parametrize(("algo", "observation", "action"), STOCK)
def test_every_algorithm_trains_and_resumes_exactly(
    tmp_path: Path, algo: str, observation: str, action: str
) -> None:
    check_that_it_trains_and_resumes(tmp_path, algo, observation, action)


@pytest.mark.parametrize(("algo", "observation", "action"), CONTRIB)
def test_every_contributed_algorithm_trains_and_resumes_exactly(
    tmp_path: Path, algo: str, observation: str, action: str
) -> None:
    pytest.importorskip("sb3_contrib")
    check_that_it_trains_and_resumes(tmp_path, algo, observation, action)


def test_every_segment_plays_new_draws_in_groups_on_seeds_apart_from_the_benchmarks() -> None:
    made = trainer("ppo", "run", "tilts", num_envs=18)
    seen: list[Any] = []
    for _ in range(2):
        made.advance()
        groups = made._venv.groups
        assert [group.num_envs for group in groups] == [6, 6, 6]
        assert max(group.num_envs for group in groups) <= GROUP_SIZE
        seen += [group.settings.data_seed for group in groups]
        for group in groups:  # the replicas of a draw are paired
            assert len(set(group.np_random_seed)) == 1
            seen.append(group.np_random_seed[0])
    assert len(set(seen)) == 12
    assert min(seen) >= FIRST_SEED


def test_the_reward_is_the_one_asked_for() -> None:
    made = trainer("ppo", "run", "tilts", reward="val_accuracy")
    assert made.mixture.env_kwargs["reward"] == "val_accuracy"
    assert -1 <= made.advance()["return"] <= 1


def test_another_seed_is_another_training() -> None:
    one, other = (trainer("ppo", "run", "tilts", seed=seed).advance()["return"] for seed in (1, 2))
    assert one != other


def test_hyperparameters_replace_the_defaults_one_by_one() -> None:
    made = trainer(
        "ppo",
        "samples",
        "mask",
        hyperparameters={"learning_rate": 0.1, "policy_kwargs": {"net_arch": [5], "lean": 0.0}},
        normalise_reward=False,
    )
    assert made.model.learning_rate == 0.1
    assert made.model.gamma == 1.0
    policy = made.model.policy
    assert isinstance(policy, SetPolicy)
    assert (policy.net_arch, policy.lean) == ([5], 0.0)
    made.advance()


def test_a_saved_policy_says_how_it_was_made(tmp_path: Path) -> None:
    made = trainer("ppo", "run", "tilts")
    made.advance()
    made.save(tmp_path / "policy.zip")
    made.save(tmp_path / "policy.npz")
    with zipfile.ZipFile(tmp_path / "policy.zip") as archive:
        origin = json.loads(archive.read("dynprune.json"))
    with np.load(tmp_path / "policy.npz") as file:
        assert json.loads(str(file["head"]))["origin"] == origin
    assert origin["algorithm"] == "ppo"
    assert origin["mixture"]["envs"] == [DIGITS, PLANTED]
    assert (origin["seed"], origin["segments"]) == (3, 1)
    assert origin["steps"] == made.steps > 0
    assert origin["visits"] == made.visits > 0


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_gets_the_logs_of_every_segment(tmp_path: Path) -> None:
    made = trainer("ppo", "run", "tilts", tensorboard=tmp_path)
    for _ in range(2):
        made.advance()
    assert list(tmp_path.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"algo": "pop"}, "no algorithm is called 'pop'.*ppo"),
        ({"algo": "sac", "action": "mask"}, "sac cannot choose actions of the kind 'mask'"),
        ({"algo": "dqn", "action": "tilts"}, "it can choose strategy"),
        ({"action": "masks"}, "ppo cannot choose actions of the kind 'masks'"),
        ({"observation": "sample"}, "no observation is called 'sample'"),
        ({"reward": "loss"}, "no reward is called 'loss'"),
        ({"hyperparameters": {"lr": 1}}, "ppo has no hyperparameter lr; it has .*learning_rate"),
        *(
            ({"hyperparameters": {name: value}}, expected)
            for name, value, expected in (
                ("n_epochs", 0, "ppo: n_epochs is a whole number of at least 1, got 0"),
                ("batch_size", 0, "ppo: batch_size is a whole number of at least 1, got 0"),
                ("n_steps", -3, "ppo: n_steps is a whole number of at least 1, got -3"),
                ("n_steps", 2.5, "ppo: n_steps is int, got 2.5"),
                ("gamma", "abc", "ppo: gamma is float and finite, got 'abc'"),
                ("gamma", 2, r"gamma is a share in \[0, 1\], got 2.0"),
                ("ent_coef", "x", "ppo: ent_coef is float and finite, got 'x'"),
                ("learning_rate", "abc", "learning_rate is float or Callable and fin.* got 'abc'"),
                ("learning_rate", 0, r"learning_rate is a number in \(0, inf\), got 0"),
                ("policy_kwargs", "abc", "ppo: policy_kwargs is dict or None, got 'abc'"),
                ("policy_kwargs", {"a": 1}, "makes no ppo with policy_kwargs={'a': 1}: TypeError"),
                ("_init_setup_model", False, "ppo has no hyperparameter _init_setup_model"),
            )
        ),
        (
            {"algo": "sac", "hyperparameters": {"ent_coef": "x"}},
            "Stable-Baselines3 makes no sac with ent_coef='x': ValueError: could not convert",
        ),
        (
            {"algo": "sac", "hyperparameters": {"train_freq": (1, "episode")}},
            "sac: train_freq is a whole number of at least 1, got .*episode",
        ),
        ({"mixture": Mixture(budgets=())}, "nothing to draw budget from"),
        (
            {
                "num_envs": 32,
                "observation": "samples",
                "action": "mask",
                "mixture": Mixture(vary={"train_size": [50, 60]}),
            },
            "give all of them the same train_size",
        ),
        (
            {  # a single group in each segment: of the first 300, of a later one 500
                "num_envs": 2,
                "observation": "samples",
                "action": "mask",
                "mixture": Mixture(vary={"train_size": [300] * 9 + [500]}),
            },
            "all draws need the same number of samples, got 300, 500; give all",
        ),
        (
            {"action": "weights", "mixture": Mixture(env_kwargs={"train_size": 400})},
            'MlpPolicy cannot choose among 400 samples .* use SetPolicy .* action="tilts"',
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    settings: dict[str, Any], expected: str
) -> None:
    known: dict[str, Any] = {"algo": "ppo", "mixture": MIXTURE, **settings}
    algo, mixture = known.pop("algo"), known.pop("mixture")
    with pytest.raises(ValueError, match=expected):
        SB3Trainer(algo, mixture, **known)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_our_defaults_and_those_of_the_algorithm_are_hyperparameters(algo: str) -> None:
    if ALGORITHMS[algo].package == "sb3_contrib":
        pytest.importorskip("sb3_contrib")
    make = ALGORITHMS[algo].load()
    ours = trainer(algo, "run", ALGORITHMS[algo].actions[-1]).hyperparameters
    theirs = {name: each.default for name, each in signature(make).parameters.items()}
    for name in OURS:
        theirs.pop(name, None)
    for chosen in (
        ours,
        theirs,
        {name: 0 for name in ("learning_starts", "verbose") if name in theirs},
    ):
        assert checked_hyperparameters(algo, make, chosen) == chosen


def test_ars_is_refused_observations_that_it_has_no_policy_for() -> None:
    pytest.importorskip("sb3_contrib")
    with pytest.raises(ValueError, match=r"expected run, diagnostics or summary, got 'samples'"):
        trainer("ars", "samples", "weights")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sb3_algorithms, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"TQC is part of sb3_contrib.*dynprune\[contrib\]"):
        ALGORITHMS["tqc"].load()
    monkeypatch.undo()
    monkeypatch.setattr(sb3_trainer, "find_spec", lambda n: None if n == "tensorboard" else True)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        trainer("ppo", "run", "tilts", tensorboard=tmp_path)


def test_a_policy_that_no_array_file_can_hold_is_refused_before_it_trains(tmp_path: Path) -> None:
    odd = {"policy_kwargs": {"activation_fn": torch.nn.Hardtanh}}
    for ending, expected in ((".npz", "Hardtanh.* cannot be kept as arrays"), (".zip", "")):
        made = trainer("ppo", "run", "tilts", hyperparameters=odd)
        plan = Plan(steps=4, out=tmp_path / f"odd{ending}")
        if expected:
            with pytest.raises(ValueError, match=expected):
                train(made, plan)
            assert (made.steps, plan.out.exists()) == (0, False)
        else:
            train(made, plan)
            assert plan.out.exists()
