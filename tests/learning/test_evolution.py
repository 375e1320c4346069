"""Evolution strategies: ranks and updates by hand, the imitation, and the same training again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.episodes import make_vector
from stable_baselines3 import PPO

from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_agents.learning.candidates import Played, play_draw
from dynprune_agents.learning.evolution import EvolutionSettings, EvolutionTrainer
from dynprune_agents.learning.imitation import TEMPERATURE, collect, fit, teach
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture, TaskDraw
from dynprune_agents.policies._features import sample_features
from dynprune_agents.policies._networks import Planner, Scorer
from dynprune_agents.policies.learned import Learned
from dynprune_agents.policies.sb3 import SB3
from dynprune_env import run_episodes
from dynprune_env.envs.relative import centred_ranks
from dynprune_env.selection.observations import PROGRESS

SMALL: dict[str, Any] = {
    "train_size": 60,
    "epochs": 3,
    "reward": "val_accuracy",
    "observation": "samples",
    "action": "mask",
}
MIXTURE = Mixture(budgets=(0.3, 0.5), label_noise=(0.0, 0.4), env_kwargs=SMALL)
FEW = EvolutionSettings(width=2, members=4, imitation=3)


def trainer(**changes: Any) -> EvolutionTrainer:
    arguments = {"num_envs": 8, "seed": 3, "steps": 200, "settings": FEW, **changes}
    return EvolutionTrainer(MIXTURE, **arguments)


def test_ranks_are_centred_and_ties_share_theirs() -> None:
    assert centred_ranks(np.array([3.0, 1.0, 2.0])).tolist() == [0.5, -0.5, 0.0]
    assert centred_ranks(np.array([1.0, 1.0, 2.0])) == pytest.approx([-0.25, -0.25, 0.5])
    assert centred_ranks(np.array([5.0, 5.0])).tolist() == [0.0, 0.0]


def test_members_of_a_game_differ_in_nothing_but_the_network() -> None:
    scorer = Scorer(width=2)
    same = np.zeros((3, scorer.num_parameters), np.float32)
    draw = TaskDraw("DynPrune-Digits-v0", {**SMALL, "budget": 0.5, "data_seed": FIRST_SEED})
    played = play_draw(draw, scorer, same, seed=5)
    assert np.ptp(played.returns) < 1e-6
    assert (played.steps, played.visits) == (9, 270)
    other = same.copy()
    other[1] = np.random.default_rng(0).normal(size=scorer.num_parameters)
    assert play_draw(draw, scorer, other, seed=5).returns[0] == played.returns[0]


def test_the_return_is_the_sum_of_the_rewards() -> None:
    scorer = Scorer(width=2)
    draw = TaskDraw("DynPrune-Digits-v0", {**SMALL, "budget": 1.0, "data_seed": FIRST_SEED})
    played = play_draw(draw, scorer, np.zeros((1, scorer.num_parameters), np.float32), seed=5)
    env = make_vector(1, **{**SMALL, "budget": 1.0, "batch_size": 64, "data_seed": FIRST_SEED})
    env.reset(seed=[5])
    start = env.evaluate("val").accuracy
    for _ in range(3):
        env.step(np.ones((1, 60), bool))
    assert played.returns == pytest.approx(env.evaluate("val").accuracy - start, abs=0.02)


def test_an_update_is_adams_step_uphill_with_weight_decay() -> None:
    one = trainer(settings=EvolutionSettings(width=2, members=4, imitation=0, decay=0.1))
    before = one.mean.copy()
    slope = np.where(np.arange(len(before)) % 2, 3.0, -0.2)
    one._update(slope)
    rate = one.settings.learning_rate
    # Adam's first step has the size of its rate, whatever the slope.
    assert one.mean == pytest.approx(before + rate * np.sign(slope) - 0.1 * before, abs=1e-6)
    assert one.averaged == pytest.approx(one.mean)


def test_the_search_climbs_a_hill(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynprune_agents.learning import evolution

    def hill(draw: Any, scorer: Scorer, rows: np.ndarray, seed: int) -> Played:
        far = np.square(rows - 0.5).sum(axis=1)
        return Played(-far, far, 1, 1, 0.0)

    monkeypatch.setattr(evolution, "play_draw", hill)
    settings = EvolutionSettings(
        width=1, members=16, imitation=0, sigma=0.1, learning_rate=0.05, average=0.9
    )
    one = trainer(num_envs=64, settings=settings)
    start = np.square(one.averaged - 0.5).mean()
    for _ in range(100):
        one.advance()
    assert np.square(one.averaged - 0.5).mean() < 0.05 * start


def test_the_teacher_keeps_hard_and_stale_samples_of_strong_models_and_no_wrong_labels() -> None:
    columns = {
        "loss_mean": np.array([[0.0, 2.0, 0.0, 2.0]], dtype=np.float32),  # z: -1, 1, -1, 1
        "age": np.array([[1.0, 1.0, 3.0, 3.0]], dtype=np.float32),  # z: -1, -1, 1, 1
    }
    wrong = np.array([False, False, False, True])
    for accuracy, trust in ((0.2, 0.0), (0.55, 0.35), (0.9, 0.7)):
        progress = np.zeros((1, len(PROGRESS)), dtype=np.float32)
        progress[:, PROGRESS.index("val_accuracy")] = accuracy
        expected = [-trust - 0.8, trust - 0.8, -trust + 0.8, trust + 0.8 - 4]
        assert teach({**columns, "progress": progress}, wrong)[0] == pytest.approx(
            expected, abs=1e-6
        )


def test_a_scorer_that_imitates_sees_through_wrong_labels() -> None:
    kwargs = {**SMALL, "train_size": 400, "epochs": 8, "label_noise": 0.4, "budget": 0.5}
    scorer = Scorer(width=4)
    draws = [
        TaskDraw("DynPrune-Digits-v0", {**kwargs, "data_seed": FIRST_SEED + i}) for i in range(3)
    ]
    flat = fit(
        scorer, [collect(draw, DynamicRandom(), seed) for seed, draw in enumerate(draws)], seed=0
    )
    assert scorer.split(flat)["bias"][0] == pytest.approx(math.log10(TEMPERATURE))
    env = draws[0].make(1, "Disabled")  # type: ignore[arg-type]
    observation, _ = env.reset(seed=FIRST_SEED + 9)
    rng = np.random.default_rng(0)
    for _ in range(6):
        observation, *_ = env.step(rng.random((1, 400)) < 0.5)
    scores = scorer.forward(flat, *sample_features(observation, 8, 10)).scores[0]
    wrong = env.dataset.corrupted
    difference = scores[~wrong].mean() - scores[wrong].mean()
    error = math.hypot(
        scores[~wrong].std() / math.sqrt((~wrong).sum()),
        scores[wrong].std() / math.sqrt(wrong.sum()),
    )
    assert difference > 3 * error


@pytest.mark.parametrize(
    "bad",
    [
        *({"imitation": 2}, {"imitation": -1}, {"loss_share": 1.5}, {"width": 0}),
        *({"members": members} for members in (0, -2, 1, 5)),
        *({"sigma": 0.0}, {"sigma": -1.0}, {"learning_rate": 0.0}, {"decay": -0.1}),
        *({"max_spend": -1.0}, {"max_weight": 33.0}, {"average": 2.0}, {"average": 1.0}),
    ],
    ids=str,
)
def test_settings_that_cannot_be_searched_with_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=f"^{next(iter(bad))} is .*, got {next(iter(bad.values()))}$"
    ):
        EvolutionSettings(**bad)


@pytest.mark.parametrize(
    ("start", "given", "bounds", "action"),
    [
        ("robust", {}, (2.0, 0.6), "weights"),
        ("robust", {"max_weight": 0.6, "max_spend": 2.0}, (2.0, 0.6), "weights"),
        ("cautious", {}, (2.0, 0.0), "mask"),
        ("cautious", {"max_weight": 0.5}, (2.0, 0.5), "weights"),
        (None, {"width": 3, "max_spend": 1.0}, (1.0, 0.0), "mask"),
    ],
)
def test_bounds_that_are_not_given_are_those_of_the_policy_to_go_on_from(
    start: str | None, given: dict[str, Any], bounds: tuple[float, float], action: str
) -> None:
    one = trainer(start=start, settings=replace(FEW, imitation=0, **given))
    assert isinstance(one.network, Scorer)
    assert (one.network.max_spend, one.network.max_weight) == bounds
    assert (one.settings.max_spend, one.settings.max_weight) == bounds
    assert one.mixture.env_kwargs["action"] == action
    assert len(one.mean) == one.network.num_parameters
    if start is not None:  # it plays the same
        kwargs = {"train_size": 60, "epochs": 3}
        agents = one.agent(), Learned(start)
        results = [
            run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=kwargs, device="cpu")[0]
            for agent in agents
        ]
        assert results[0].test_loss == results[1].test_loss
    one.advance()


def test_other_bounds_than_those_of_the_policy_to_go_on_from_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"of max_weight 0\.6 plays otherwise with max_weight=0\.0"
    ):
        trainer(start="robust", settings=replace(FEW, max_weight=0.0))


def test_the_val_loss_decides_between_equal_returns() -> None:
    one = trainer(settings=replace(FEW, imitation=0, loss_share=0.25, members=2), num_envs=2)
    returns, losses = np.array([0.5, 0.5]), np.array([0.3, 0.1])
    assert one.shaped(Played(returns, losses, 1, 1, 0.0)).tolist() == [-0.125, 0.125]
    assert one.shaped(Played(losses, losses, 1, 1, 0.0)).tolist() == [0.25, -0.25]


def test_a_training_that_goes_on_from_a_checkpoint_is_the_undisturbed_one(tmp_path: Path) -> None:
    whole = trainer()
    logged = [whole.advance() for _ in range(4)]
    first = trainer()
    for _ in range(2):
        first.advance()
    first.save_checkpoint(tmp_path)
    second = trainer()
    second.load_checkpoint(tmp_path)
    assert [second.advance() for _ in range(2)] == logged[2:]
    assert np.array_equal(second.averaged, whole.averaged)
    assert (second.steps, second.visits) == (whole.steps, whole.visits)


def test_the_number_of_processes_changes_nothing() -> None:
    one, two = trainer(), trainer(jobs=2)
    for each in (one, two):
        each.advance()
        each.advance()
    assert np.array_equal(one.mean, two.mean)


def test_another_seed_is_another_training() -> None:
    one, other = trainer(), trainer(seed=4)
    one.advance()
    other.advance()
    assert not np.array_equal(one.mean, other.mean)


def test_a_number_of_envs_that_no_game_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="--envs must be a multiple of members=4, got 6"):
        trainer(num_envs=6)


# -- planners ----------------------------------------------------------------------------------


def test_a_planner_starts_as_dynamic_random_and_acts_by_its_formula() -> None:
    planner = Planner(width=2)
    flat = planner.initial(np.random.default_rng(0))
    observation = np.random.default_rng(1).normal(size=(3, 12)).astype(np.float32)
    assert (planner.act(flat, observation) == 0).all()
    p = planner.split(flat)
    p["b"][:], p["W"][:, 0], p["W"][:, 1], p["c"][2] = 0.3, (0.5, -0.2), 1e6, -0.7
    hidden = np.tanh(observation @ p["A"] + 0.3)
    action = planner.act(flat, observation)
    assert action[:, 0] == pytest.approx(hidden @ [0.5, -0.2], abs=1e-5)
    assert set(np.abs(action[:, 1])) == {1.0}
    assert (action[:, 2] == np.float32(-0.7)).all()


def test_a_planner_is_saved_as_a_model_that_plays_the_same(tmp_path: Path) -> None:
    made = EvolutionTrainer(MIXTURE, num_envs=8, steps=60, settings=FEW, action="tilts", seed=1)
    made.averaged = np.random.default_rng(0).normal(scale=0.5, size=made.averaged.shape)
    made.save(tmp_path / "planner.zip")
    made.save(tmp_path / "planner.npz")
    assert PPO.load(tmp_path / "planner.zip").gamma == 1.0
    kwargs = {"train_size": 60, "epochs": 3, "label_noise": 0.4}
    runs = [
        run_episodes("DynPrune-Digits-v0", agent, [0, 1], env_kwargs=kwargs, device="cpu")
        for agent in (
            made.agent(),
            SB3(str(tmp_path / "planner.npz")),
            SB3(str(tmp_path / "planner.zip"), trust=True),
        )
    ]
    for played in zip(*runs, strict=True):
        assert len({(each.selections, each.test_loss) for each in played}) == 1


def test_planners_search_and_resume_too(tmp_path: Path) -> None:
    whole, first, second = (
        EvolutionTrainer(MIXTURE, num_envs=8, steps=60, settings=FEW, action="tilts")
        for _ in range(3)
    )
    for each in (whole, whole, first):
        each.advance()
    first.save_checkpoint(tmp_path)
    second.load_checkpoint(tmp_path)
    second.advance()
    assert np.array_equal(whole.averaged, second.averaged)
    assert not np.array_equal(whole.averaged, first.averaged)
