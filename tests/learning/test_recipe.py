"""Algorithms of Stable-Baselines3 learn by the recipe unless told otherwise."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cpu_seconds import cpu_seconds_below
from helpers.episodes import make_vector

from dynprune_agents.cli import app as cli
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.sb3_trainer import LAST_RATE, SB3Trainer
from dynprune_agents.learning.trainers import make_trainer
from dynprune_agents.learning.training import PolicyEvaluation
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_env import RelativeRewards
from dynprune_env.common.sources import hash_file

SMALL = Mixture(
    budgets=(0.5,), env_kwargs={"train_size": 60, "epochs": 3, "reward": "val_accuracy"}
)
UNLIKE = Mixture(
    envs=("DynPrune-Digits-v0", "DynPrune-Planted-v0", "DynPrune-Overlap-v0"),
    budgets=(0.3,),
    vary={
        "Digits:epochs": [16, 20],
        "Digits:train_size": [100, 300],
        "Planted:epochs": [7],
    },
    env_kwargs={"device": "cpu", "reward": "val_accuracy"},
)


def made(algo: str, mixture: Mixture = SMALL, **arguments: Any) -> Any:
    known: dict[str, Any] = {"observation": None, "action": None, "num_envs": None}
    known |= {"steps": 1000, "seed": 0, "settings": {}, **arguments}
    return make_trainer(algo, mixture, **known)


def small(algo: str = "ppo", **arguments: Any) -> SB3Trainer:
    trainer = made(algo, **arguments)
    assert isinstance(trainer, SB3Trainer)
    return trainer


@pytest.mark.parametrize("algo", ["ppo", "a2c", "trpo"])
def test_on_policy_algorithms_see_runs_choose_tilts_and_learn_from_ranks(algo: str) -> None:
    if algo == "trpo":
        pytest.importorskip("sb3_contrib")
    trainer = small(algo)
    kinds = trainer.mixture.env_kwargs
    assert (kinds["observation"], kinds["action"]) == ("run", "tilts")
    assert trainer.num_envs == trainer._venv.num_envs == 32
    groups = trainer._venv.groups
    assert [(group.num_envs, group.unwrapped.twins, group.kind) for group in groups] == [
        (8, 8, "rank")
    ] * 4
    model = trainer.model
    assert (model.gamma, model.gae_lambda, model.n_steps) == (1.0, 1.0, 3)
    assert trainer.hyperparameters["policy_kwargs"] == {
        "net_arch": {"pi": [16], "vf": [16]},
        "log_std_init": -1.2,
    }


def test_ppo_learns_from_all_of_a_rollout_at_once() -> None:
    model: Any = small().model
    assert (model.batch_size, model.n_epochs) == (3 * 32, 8)


def test_rewards_are_ranks_as_they_are_and_come_with_the_last_step_alone() -> None:
    trainer = small()
    trainer.advance()
    rewards = trainer.model.rollout_buffer.rewards
    assert not rewards[:-1].any()
    groups = rewards[-1].reshape(4, 8)
    np.testing.assert_allclose(groups.sum(1), 0, atol=1e-6)
    assert 0.2 < np.abs(rewards[-1]).max() <= 0.5


@pytest.mark.parametrize("algo", ["ppo", "a2c", "sac"])
def test_the_learning_rate_falls_over_all_steps_and_so_it_does_when_resumed(
    tmp_path: Path, algo: str
) -> None:
    settings = {"learning_rate": 0.01}
    trainer = small(algo, num_envs=8, steps=96, settings=settings, relative="mean")
    rates = []
    for segment in range(5):
        if segment == 2:
            trainer.save_checkpoint(tmp_path)
            trainer = small(algo, num_envs=8, steps=96, settings=settings, relative="mean")
            trainer.load_checkpoint(tmp_path)
        trainer.advance()
        rates.append(trainer.model.lr_schedule(1.0))
        optimizers = getattr(trainer.model, "actor", trainer.model.policy).optimizer.param_groups
        assert optimizers[0]["lr"] == pytest.approx(rates[-1])
    left = [1, 0.75, 0.5, 0.25, LAST_RATE]
    assert rates == pytest.approx([0.01 * share for share in left])


def test_a_schedule_of_ones_own_is_told_how_much_of_the_training_is_left() -> None:
    asked: list[float] = []

    def schedule(left: float) -> float:
        asked.append(left)
        return 0.001 * left

    chosen = {"learning_rate": schedule}
    trainer = SB3Trainer("ppo", SMALL, num_envs=8, steps=48, hyperparameters=chosen)
    for rate in (0.001, 0.0005):
        asked.clear()
        trainer.advance()
        assert trainer.model.lr_schedule(1.0) == pytest.approx(rate)
    assert asked == [0.5]


def test_without_steps_the_learning_rate_stays() -> None:
    trainer = SB3Trainer("ppo", SMALL, num_envs=8)
    for _ in range(2):
        trainer.advance()
        assert trainer.model.lr_schedule(0.0) == trainer.hyperparameters["learning_rate"]


@pytest.mark.parametrize("relative", ["rank", "random", "none"])
@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_tasks_of_unlike_size_length_and_classes_are_learned_together(
    algo: str, relative: str
) -> None:
    trainer = small(algo, mixture=UNLIKE, num_envs=32, twins=2, relative=relative, seed=1)
    logs = [trainer.advance() for _ in range(2)]
    seen = {
        (resolved.info.name, resolved.recipe.epochs)
        for resolved in (group.settings.resolved for group in trainer._venv.groups)
    }
    assert {name for name, _ in seen} == {"Digits", "Planted", "Overlap"}
    assert {length for _, length in seen} >= {7, 16, 20}
    for log in logs:
        assert all(np.isfinite(value) for value in log.values()), log
        assert log["episodes"] >= trainer.num_envs


def test_convolutional_nets_and_small_ones_train_side_by_side() -> None:
    mixture = replace(
        UNLIKE,
        envs=("DynPrune-Digits-v0", "DynPrune-Clutter-v0", "DynPrune-Crowd-v0"),
        vary={
            "Digits:epochs": [5],
            "Clutter:epochs": [2],
            "Clutter:train_size": [64],
            "Clutter:model": ["small_cnn(width=4)"],
            "Crowd:epochs": [3],
        },
    )
    trainer = small(mixture=mixture, num_envs=12, twins=2, seed=6)
    log = trainer.advance()
    seen = {group.settings.resolved.info.name for group in trainer._venv.groups}
    assert seen == {"Digits", "Clutter", "Crowd"}
    assert np.isfinite(log["return"])
    # Episodes of two and three epochs are played more than once in a segment of five.
    assert log["episodes"] > trainer.num_envs


def test_where_a_segment_cuts_an_episode_its_returns_end() -> None:
    trainer = small("sac", mixture=UNLIKE, num_envs=16, twins=2, seed=1)
    trainer.advance()
    buffer = trainer.model.replay_buffer
    last = buffer.pos - 1
    assert not buffer.dones[last].all()
    assert np.logical_xor(buffer.dones[last], buffer.timeouts[last]).all()
    assert buffer.n_steps == 20


@pytest.mark.parametrize("algo", ["sac", "td3", "dqn", "tqc"])
def test_off_policy_algorithms_learn_from_leads_over_dynamic_random_at_the_end(algo: str) -> None:
    if algo == "tqc":
        pytest.importorskip("sb3_contrib")
    trainer = small(algo, num_envs=8)
    assert trainer.relative == "random"
    assert trainer.mixture.env_kwargs["observation"] == "run"
    assert trainer.mixture.env_kwargs["action"] == ("strategy" if algo == "dqn" else "tilts")
    trainer.advance()
    buffer = trainer.model.replay_buffer
    filled = buffer.rewards[: buffer.pos]
    assert len(filled) == 3
    assert not filled[:-1].any()
    assert filled[-1].any()
    assert (buffer.n_steps, buffer.gamma) == (3, 1.0)


def test_ars_compares_policies_by_their_own_rewards() -> None:
    pytest.importorskip("sb3_contrib")
    assert small("ars").relative == "none"
    with pytest.raises(ValueError, match="relative is \"none\" for it, got 'rank'"):
        small("ars", relative="rank")


def test_a_raw_mask_is_learned_by_the_same_scheme() -> None:
    trainer = small(action="mask", num_envs=8)
    assert trainer.mixture.env_kwargs["observation"] == "samples"
    assert type(trainer.model.policy).__name__ == "SetPolicy"
    assert trainer.relative == "rank"
    assert trainer.model.gae_lambda == 1.0


@pytest.mark.parametrize("reward", ["final_accuracy", "final_loss", "val_accuracy"])
def test_a_reward_counts_for_all_that_led_to_it(reward: str) -> None:
    mixture = replace(SMALL, env_kwargs={**SMALL.env_kwargs, "reward": reward})
    ppo, a2c = (small(name, mixture=mixture, relative="none") for name in ("ppo", "a2c"))
    assert ppo.model.gae_lambda == a2c.model.gae_lambda == 1.0
    assert a2c.model.n_steps == (1 if reward == "val_accuracy" else 3)
    masks = small(mixture=mixture, relative="none", action="mask", num_envs=4)
    assert masks.model.gae_lambda == (0.8 if reward == "val_accuracy" else 1.0)


def test_without_twins_the_reward_is_the_one_asked_for() -> None:
    trainer = small(relative="none", num_envs=4)
    trainer.advance()
    assert trainer.model.rollout_buffer.rewards[:-1].any()
    assert not any(isinstance(group, RelativeRewards) for group in trainer._venv.groups)


@pytest.mark.parametrize(
    ("algo", "arguments", "expected"),
    [
        ("ppo", {"relative": "ranks"}, "no kind of relative rewards is called 'ranks'"),
        ("ppo", {"num_envs": 1}, "compare at least 2 twins, got num_envs=1"),
        ("ppo", {"twins": 1}, "compare at least 2 twins, got num_envs=32 in groups of at most 1"),
        ("ppo", {"num_envs": 3, "twins": 2}, "compare at least 2 twins"),
        ("ppo", {"twins": 0}, "twins"),
        ("es", {"twins": 4}, "--twins and --relative are for the algorithms of Stable-Baselines3"),
        ("es", {"relative": "none"}, "--twins and --relative are for"),
    ],
)
def test_twins_that_cannot_be_compared_are_refused(
    algo: str, arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        made(algo, **arguments)


def test_runs_that_play_dynamic_random_for_others_are_not_learned_from() -> None:
    def groups() -> list[Any]:
        kinds = {"observation": "run", "action": "tilts", "twins": 3}
        return [
            RelativeRewards(make_vector(6, "SameStep", **kinds), kind="random"),
            RelativeRewards(make_vector(3, "SameStep", **kinds), kind="rank"),
        ]

    venv = DynPruneVecEnv(groups())
    assert venv.num_envs == 7
    assert venv.seed(5) == [5, 5, 6, 6, 7, 7, 7]
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 7, 8)).astype(np.float32)
    seen = [venv.reset()]
    rewards = []
    for action in actions:
        observation, reward, done, infos = venv.step(action)
        seen.append(observation)
        rewards.append(reward)
    assert done.all()
    assert len(infos) == len(venv.reset_infos) == len(venv.get_attr("kind")) == 7
    assert venv.steps == 4 * 9

    first, second = groups()
    expected = [np.concatenate([first.reset(seed=[5, 6])[0], second.reset(seed=7)[0]])]
    for action in actions:
        whole = np.ones((6, 8), dtype=np.float32)
        whole[[1, 2, 4, 5]] = action[:4]
        one, other = first.step(whole), second.step(action[4:])
        expected.append(np.concatenate([one[0], other[0]]))
        paid = np.concatenate([one[1], other[1]])
    learns = [1, 2, 4, 5, 6, 7, 8]
    for found, right in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(found, right[learns])
    np.testing.assert_allclose(rewards[-1], paid[learns], atol=1e-6)
    assert venv.visits == int(one[4]["final_info"]["run_visits"].sum()) + int(
        other[4]["final_info"]["run_visits"].sum()
    )


def test_the_command_trains_by_the_recipe_and_says_what_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("COLUMNS", "200")

    def call(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dynprune", "train", *options])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
        captured = capsys.readouterr()
        return captured.out + captured.err

    told = call("--help")
    for word in (
        "run, diagnostics, summary",
        "tilts",
        "weighted_tilts",
        "paced_tilts",
        "--twins",
        "--relative",
    ):
        assert word in told
    few = ("--env-kwargs", "train_size=60", "--env-kwargs", "epochs=3", "--device", "cpu")
    call("--algo", "ppo", "--steps", "96", *few)
    with np.load(tmp_path / "policy.npz") as file:
        head = str(file["head"])
    for part in ('"relative":"rank"', '"twins":8', '"num_envs":32', '"action":"tilts"'):
        assert part in head


@pytest.mark.slow
def test_ppo_rises_within_a_minute_of_cpu_time_where_many_labels_are_wrong() -> None:
    """Two fifths of the labels are redrawn, and a tenth of the visits is paid for."""
    steps = 25_600
    hard = replace(SMALL, budgets=(0.1,), label_noise=(0.4,), env_kwargs={"device": "cpu"})
    returns = []
    with cpu_seconds_below(60):
        trainer = SB3Trainer("ppo", hard, steps=steps, seed=0)
        while trainer.steps < steps:
            returns.append(trainer.advance()["return"])
    first, last = np.array(returns[:10]), np.array(returns[-10:])
    error = np.hypot(first.std() / np.sqrt(10), last.std() / np.sqrt(10))
    print(f"{first.mean():.3f} -> {last.mean():.3f} +- {error:.3f}")
    assert last.mean() - first.mean() > 0.02
    lead, error = PolicyEvaluation(hard, 0).lead(trainer.agent())
    print(f"{100 * lead:+.1f} +- {100 * error:.1f} points above dynamic random on other data")
    assert lead > 0.01


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_training_that_starts_from_a_policy_has_its_networks(algo: str, tmp_path: Path) -> None:
    first = small(algo)
    first.advance()
    first.save(tmp_path / "first.npz")
    further = small(algo, seed=1, start=str(tmp_path / "first.npz"))
    fresh, theirs = small(algo, seed=1), first.model.policy.state_dict()
    for name, value in further.model.policy.state_dict().items():
        assert torch.equal(value, theirs[name])
    changed = [
        not torch.equal(value, theirs[name])
        for name, value in fresh.model.policy.state_dict().items()
    ]
    assert any(changed)
    further.advance()  # it trains on
    further.save(tmp_path / "second.npz")
    with np.load(tmp_path / "second.npz") as file:
        start = json.loads(str(file["head"]))["origin"]["start"]
    assert start == f"first.npz {hash_file(tmp_path / 'first.npz')}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"start": "robust"}, r"play it as learned\(policy='robust'\)"),
        ({"start": "ppo", "action": "weighted_tilts"}, "--start ppo has other networks"),
        ({"start": "nobody"}, "there is no policy file 'nobody'"),
    ],
)
def test_a_policy_that_does_not_fit_is_no_start(arguments: dict[str, str], expected: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        small(**arguments)
