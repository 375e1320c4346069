"""SetPolicy treats samples as a set, plays for any n, and trains where stock policies break."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers.episodes import make_vector, run_script
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from stable_baselines3 import A2C, PPO

from dynprune_agents.learning.policy_fit import check_policy_fits
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_agents.policies._distribution import KeepChoice, KeepDistribution, offset
from dynprune_agents.policies._features import TASK_SIZE, TASK_SIZE_KEYS
from dynprune_agents.policies._set_policy import SetPolicy
from dynprune_env import RelativeRewards
from dynprune_env.selection.observations import PROGRESS, Samples, TaskSize
from dynprune_env.selection.statistics import SampleStatistics


def space(n: int, epochs: int = 20, num_classes: int = 10) -> spaces.Dict:
    return Samples(TaskSize(n, epochs, num_classes)).space()


def policy(n: int, seed: int = 0, scale: float = 0.7, **kwargs: Any) -> SetPolicy:
    """With large random weights, so that its choices are far from even."""
    made = SetPolicy(space(n), spaces.MultiBinary(n), lambda _: 1e-3, **kwargs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, scale, generator=generator)
    return made


def observation(n: int, rows: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Columns inside their bounds, and a run somewhere in the middle."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name in SampleStatistics.COLUMNS:
        low, high = SampleStatistics.bounds(name, 20, 10)
        values = rng.uniform(low, min(high, 8), (rows, n))
        whole = name in ("correct", "forgetting", "visits", "age", "label")
        columns[name] = np.rint(values) if whole else values
    known = {"progress": 0.5, "epoch": 0.5, "spent": 0.4, "budget": 0.3, "val_loss": 1.0}
    progress = np.array([[known.get(name, 0.5) for name in PROGRESS]] * rows)
    columns["progress"] = progress
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in columns.items()}


def logits(made: SetPolicy, seen: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found = made.get_distribution(seen).distribution.logits
    assert isinstance(found, torch.Tensor)
    return found


# -- a set -------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(0, 10**6), st.sampled_from([[4], [16], [8, 5]]))
@property_settings(max_examples=40)
def test_permuting_the_samples_permutes_the_choice_and_leaves_the_value(
    n: int, seed: int, net_arch: list[int]
) -> None:
    made, seen = policy(n, seed, net_arch=net_arch), observation(n, seed=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    permuted = {k: v if k == "progress" else v[:, order] for k, v in seen.items()}
    torch.testing.assert_close(
        logits(made, permuted), logits(made, seen)[:, order], rtol=1e-3, atol=1e-3
    )
    with torch.no_grad():
        values = made.predict_values(permuted), made.predict_values(seen)
        mask = (torch.rand(2, n) < 0.5).float()
        chances = (
            made.evaluate_actions(permuted, mask[:, order])[1],
            made.evaluate_actions(seen, mask)[1],
        )
    torch.testing.assert_close(*values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(*chances, rtol=1e-3, atol=1e-3)


def test_it_has_few_parameters_and_as_many_for_any_n() -> None:
    sizes = {n: sum(p.numel() for p in policy(n).parameters()) for n in (1, 60, 50_000)}
    assert len(set(sizes.values())) == 1
    assert sizes[60] < 3000
    wide = policy(60, net_arch=[32, 24])
    assert [layer.out_features for layer in wide.mlp_extractor.actor[1::2]] == [24]  # type: ignore[index]
    assert sum(p.numel() for p in wide.parameters()) < 6000


def test_epochs_and_classes_come_with_the_observation_or_from_the_bounds() -> None:
    env = DynPruneVecEnv(make_vector(2, "SameStep", task="Planted", epochs=7))
    env.seed(0)
    env.reset()
    seen, *_ = env.step(np.arange(48) % 2 < np.ones((2, 1)))
    opened = SetPolicy(env.observation_space, env.action_space, lambda _: 1e-3)
    plain = opened.for_spaces(space(48, 7, 10), env.action_space)
    tensors = {name: torch.from_numpy(value) for name, value in seen.items()}
    features = opened.extract_features(tensors)
    without = {name: value for name, value in tensors.items() if name != TASK_SIZE}
    for found, expected in zip(plain.extract_features(without), features, strict=True):
        torch.testing.assert_close(found, expected)
    for key in TASK_SIZE_KEYS:
        found = opened.features_extractor({**without, key: tensors[TASK_SIZE]})
        assert all(torch.equal(*pair) for pair in zip(found, features, strict=True))
    other = opened.for_spaces(space(48, 70, 10), env.action_space).extract_features(without)
    assert not torch.equal(other[1], features[1])


# -- how many ----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.05, 0.3, 0.8, 1.0])
def test_untrained_it_keeps_every_sample_with_the_probability_that_spends_evenly(
    budget: float,
) -> None:
    envs = make_vector(2, budget=budget, epochs=10)
    made = SetPolicy(envs.single_observation_space, envs.single_action_space, lambda _: 1e-3)
    seen, _ = envs.reset(seed=0)
    for epoch in range(3):
        tensors = {name: torch.from_numpy(value) for name, value in seen.items()}
        found = torch.sigmoid(logits(made, tensors))
        share = envs.trainer.budget.visits_per_epoch / 48
        expected = np.minimum(share, 0.999)[:, None].repeat(48, 1)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0.03, atol=1e-3)
        seen, *_ = envs.step(found.numpy() > np.random.default_rng(epoch).random((2, 48)))


def test_how_many_is_decided_apart_from_which() -> None:
    made, seen = policy(500, scale=1.5), observation(500)
    keep_rate = 0.3 * 0.6 / 0.5
    found = torch.sigmoid(logits(made, seen))
    assert found.std() > 0.2
    assert (found.mean(1) / keep_rate).log2().abs().max() <= 1.001
    even = policy(500, scale=1.5, max_spend=0.0)
    torch.testing.assert_close(
        torch.sigmoid(logits(even, seen)).mean(1), torch.full((2,), keep_rate), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.999])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_the_offset_meets_the_rate(rate: float, spread: float) -> None:
    scores = spread * torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    shift = offset(scores, torch.full((3,), rate))
    kept = torch.sigmoid(scores + shift[:, None]).mean(1)
    assert kept == pytest.approx(np.full(3, rate), abs=2e-3)


def test_the_offset_has_the_gradient_of_the_implicit_function() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(2, 6, dtype=torch.float64, generator=generator).requires_grad_()
    rate = torch.tensor([0.2, 0.6], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(offset, (scores, rate))


# -- the distribution --------------------------------------------------------------------------


def distribution(
    chances: torch.Tensor, alpha: float = 0.75, lean: float = 0.0, samples: Any = None
) -> KeepDistribution:
    samples = torch.zeros(*chances.shape, 2) if samples is None else samples
    found = KeepDistribution(alpha, lean, max_spend=1.0)
    return found.proba_distribution(KeepChoice(torch.logit(chances), samples))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_log_probabilities_are_summed_and_divided_by_a_power_of_n(alpha: float) -> None:
    chances = torch.tensor([[0.2, 0.9, 0.5, 0.5]])
    kept = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    expected = math.log(0.2 * 0.1 * 0.5 * 0.5) / 4**alpha
    found = distribution(chances, alpha)
    assert found.log_prob(kept).item() == pytest.approx(expected, rel=1e-5)
    entropies = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.2, 0.9, 0.5, 0.5)]
    assert found.entropy().item() == pytest.approx(np.mean(entropies), rel=1e-5)


def test_the_mode_is_the_top_at_the_mean_rate() -> None:
    found = distribution(torch.tensor([[0.3, 0.1, 0.4, 0.2, 0.25]] * 2)).mode()
    assert found.tolist() == [[0, 0, 1, 0, 0]] * 2  # 1.25 samples on average
    chances = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.3, 0.2, 0.4]])
    assert distribution(chances).mode().tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("chance", [1e-4, 0.1, 0.6, 1 - 1e-4])
def test_the_mode_keeps_neither_none_nor_all(chance: float) -> None:
    assert 0 < distribution(torch.full((1, 9), chance)).mode().sum() < 9
    assert distribution(torch.full((1, 1), chance)).mode().sum() == 1


@pytest.mark.parametrize("lean", [0.0, 0.4])
def test_draws_have_their_probabilities_and_lean_together_where_samples_are_alike(
    lean: float,
) -> None:
    torch.manual_seed(0)
    draws = 20_000
    chances = torch.tensor([0.1, 0.3, 0.3, 0.6, 0.5]).expand(draws, 5)
    # The first two point one way, the third and fourth the other, the last lies in the middle.
    features = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0], [0, 0]]).expand(draws, 5, 2)
    kept = distribution(chances, lean=lean, samples=features).sample()
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    error = 5 * 0.5 / math.sqrt(draws)
    assert kept.mean(0) == pytest.approx(chances[0].numpy(), abs=error)
    correlation = np.corrcoef(kept.numpy().T)
    if lean:
        assert correlation[0, 1] > 0.1
        assert correlation[1, 2] < -0.1
        assert abs(correlation[1, 4]) < 0.04
    else:
        assert np.abs(correlation - np.eye(5)).max() < 0.04


def test_where_all_samples_are_alike_draws_are_independent() -> None:
    torch.manual_seed(0)
    found = distribution(torch.full((4000, 30), 0.3), lean=0.5, samples=torch.ones(4000, 30, 3))
    assert found.sample().sum(1).var() == pytest.approx(30 * 0.3 * 0.7, rel=0.15)


# -- any n -------------------------------------------------------------------------------------


def test_a_model_saved_at_one_n_goes_on_and_acts_at_others(tmp_path: Path) -> None:
    env = DynPruneVecEnv(make_vector(2, "SameStep", train_size=60))
    model = PPO(SetPolicy, env, n_steps=4, batch_size=8, n_epochs=1, seed=0, device="cpu")
    model.learn(8)
    model.save(tmp_path / "model.zip")
    larger = DynPruneVecEnv(make_vector(2, "SameStep", train_size=200))
    found = {"observation_space": larger.observation_space, "action_space": larger.action_space}
    again = PPO.load(tmp_path / "model.zip", env=larger, custom_objects=found, device="cpu")
    trained = model.policy
    assert isinstance(trained, SetPolicy)
    for n in (200, 50_000):
        seen = observation(n)
        loaded = trained.for_spaces(space(n), spaces.MultiBinary(n))
        mask, _ = loaded.predict(dict_of_arrays(seen), deterministic=True)
        assert mask.shape == (2, n)
        assert mask.mean() == pytest.approx(0.36, rel=0.1)
    again_policy = again.policy
    assert isinstance(again_policy, SetPolicy)
    torch.testing.assert_close(
        logits(again_policy.for_spaces(space(50_000), spaces.MultiBinary(50_000)), seen),
        logits(loaded, seen),
    )
    again.learn(8)


def dict_of_arrays(seen: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in seen.items()}


@pytest.mark.parametrize(("algorithm", "settings"), [(PPO, {"batch_size": 8}), (A2C, {})])
def test_it_trains(algorithm: Any, settings: dict[str, Any]) -> None:
    env = DynPruneVecEnv(RelativeRewards(make_vector(4, "SameStep", twins=4), "mean"))
    model = algorithm(SetPolicy, env, n_steps=4, gamma=1.0, seed=1, device="cpu", **settings)
    before = [value.clone() for value in model.policy.parameters()]
    model.learn(64)
    after = list(model.policy.parameters())
    assert all(torch.isfinite(value).all() for value in after)
    moved = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert all(moved)


LARGE = """
import resource, sys
import numpy as np, torch
torch.set_num_threads(1)
from stable_baselines3 import PPO
from dynprune_agents.policies._set_policy import SetPolicy
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_env import DynPruneVectorEnv
from dynprune_env.tasks.datasets import RawData, DatasetInfo, Split
from dynprune_env.tasks.registry import TASKS, Task
from dynprune_env.tasks.recipes import Recipe

def read(data_dir, download):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(50_010) % 5
    images = torch.randn(50_010, 3, generator=generator) + labels[:, None]
    return RawData(train=Split(images, labels), test=Split(images[:10], labels[:10]))

source = DatasetInfo("Large", read, 50_010, num_val=10, num_classes=5, input_shape=(3,),
                class_size=10_002)
TASKS["Large"] = Task(source, "mlp(width=4)", Recipe(4, 1000, 0.1))
env = DynPruneVecEnv(DynPruneVectorEnv(2, "SameStep", task="Large", budget=0.05, device="cpu"))
assert env.action_space.n == 50_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = PPO(SetPolicy, env, n_steps=4, batch_size=4, n_epochs=2, gamma=1.0, seed=0, device="cpu")
model.learn(8)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
finite = all(torch.isfinite(value).all() for value in model.policy.parameters())
values = model.logger.name_to_value
print(finite, (peak - before) // unit, values["train/approx_kl"], values["train/loss"])
"""


def test_fifty_thousand_samples_train_finitely_in_bounded_memory() -> None:
    finite, megabytes, divergence, loss = run_script(LARGE).split()[-4:]
    assert finite == "True"
    assert int(megabytes) < 700
    assert abs(float(divergence)) < 0.5
    assert math.isfinite(float(loss))


# -- what does not fit -------------------------------------------------------------------------


BOX = spaces.Box(-1, 1, (36,), np.float32)


@pytest.mark.parametrize("kind", ["MlpPolicy", "MultiInputPolicy"])
@pytest.mark.parametrize("action", [spaces.MultiBinary(301), spaces.Box(0, 1, (5000,), np.float32)])
def test_stock_policies_on_many_samples_are_refused_with_the_two_better_ways(
    kind: str, action: spaces.Space[Any]
) -> None:
    with pytest.raises(ValueError, match=f"{kind} cannot choose among .* samples") as refusal:
        check_policy_fits(kind, space(10), action)
    for way in ("SetPolicy", 'observation="run"', 'action="tilts"'):
        assert way in str(refusal.value)


def test_what_fits_is_not_refused() -> None:
    check_policy_fits("MultiInputPolicy", space(300), spaces.MultiBinary(300))
    check_policy_fits("MlpPolicy", BOX, spaces.Box(-1, 1, (9,), np.float32))
    check_policy_fits("MlpPolicy", BOX, spaces.Discrete(7))
    check_policy_fits(SetPolicy, space(50_000), spaces.MultiBinary(50_000))


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (BOX, spaces.MultiBinary(9)),
        (space(9), spaces.Box(0, 1, (9,), np.float32)),
        (spaces.Dict({"loss": BOX}), spaces.MultiBinary(9)),
    ],
)
def test_a_set_policy_needs_samples_and_masks(
    seen: spaces.Space[Any], action: spaces.Space[Any]
) -> None:
    expected = 'SetPolicy needs observation="samples" and action="mask"'
    with pytest.raises(ValueError, match=expected):
        check_policy_fits(SetPolicy, seen, action)
    with pytest.raises(ValueError, match=expected):
        SetPolicy(seen, action, lambda _: 1e-3)
