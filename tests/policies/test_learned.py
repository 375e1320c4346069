"""Learned policies: features, the scorer, its file and the agent that plays it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.by_hand import MANY, assert_frequencies, episode, observed
from helpers.episodes import make_vector
from hypothesis import given
from hypothesis import strategies as st

import dynprune_agents
from dynprune_agents.learning.candidates import InTraining
from dynprune_agents.policies._features import (
    CONTEXT_FEATURES,
    SAMPLE_FEATURES,
    sample_features,
)
from dynprune_agents.policies._files import FOLDER, load_scorer, save_scorer
from dynprune_agents.policies._networks import SCALE, Scorer, gumbel
from dynprune_agents.policies.learned import Learned
from dynprune_env import run_episodes
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection.features import class_means
from dynprune_env.selection.observations import PROGRESS

SMALL = {"train_size": 60, "epochs": 3}
NAT = math.log(10)


def seen(**columns: Any) -> dict[str, np.ndarray]:
    """One replica's observation of four samples; unnamed columns are zero."""
    names = (
        "loss",
        "loss_mean",
        "loss_var",
        "confidence",
        "correct",
        "forgetting",
        "visits",
        "age",
        "margin",
        "label",
    )
    rows = {name: np.float32([columns.pop(name, [0, 0, 0, 0])]) for name in names}
    progress = [columns.pop(name, 0) for name in PROGRESS]
    assert not columns
    return {**rows, "progress": np.float32([progress])}


def random_scorer(seed: int = 0, scorer: Scorer | None = None) -> tuple[Scorer, np.ndarray]:
    scorer = scorer or Scorer(width=3)
    rng = np.random.default_rng(seed)
    return scorer, rng.normal(scale=0.4, size=scorer.num_parameters).astype(np.float32)


# -- features ----------------------------------------------------------------------------------


def test_run_features_are_means_over_the_visited_samples_only() -> None:
    observation = seen(
        loss=[NAT / 2, 2 * NAT, NAT, NAT],
        confidence=[0.6, 0.2, 0.1, 0.1],
        correct=[1, 0, 0, 0],
        visits=[2, 1, 0, 0],
        loss_mean=[NAT / 2, 1.5 * NAT, 9, 9],
        age=[2, 1, 0, 0],
        progress=0.25,
        budget=0.5,
        val_loss=NAT / 4,
        val_accuracy=0.8,
    )
    _, run = sample_features(observation, epochs=20, num_classes=10)
    assert dict(zip(CONTEXT_FEATURES, run[0].tolist(), strict=True)) == pytest.approx(
        {
            "progress": 0.25,
            "budget": 0.5,
            "visits": 1.0,  # log10 of ten visits a sample
            "unvisited": 0.5,
            "loss": 0.25,  # (0.5 + 2) / 2 - 1
            "confidence": 0.4,
            "correct": 0.5,
            "above_uniform": 0.5,
            "val_loss": -0.75,
            "val_accuracy": 0.8,
            "gap": 0.3,
            "recent_gap": 0.8,  # of the second sample alone
            "loss_spread": 0.5,
            # Its margin is 0: it shares the probability with the best other class.
            "label_share": math.log(9 * 0.2 / 0.8) / math.log(9),
            "label_implausible": 0.0,
            "once_right": 0.0,  # of none that was seen three times
        },
        abs=1e-6,
    )


def test_before_the_first_visit_the_means_are_zero() -> None:
    observation = seen(loss=[NAT] * 4, loss_mean=[NAT] * 4, budget=1, val_loss=NAT)
    samples, run = sample_features(observation, epochs=10, num_classes=10)
    known = dict(zip(CONTEXT_FEATURES, run[0].tolist(), strict=True))
    assert [known[name] for name in ("loss", "confidence", "correct", "gap")] == [0, 0, 0, 0]
    columns = dict(zip(SAMPLE_FEATURES, samples[0].T, strict=True))
    assert (columns["unvisited"] == 1).all()
    assert columns["loss_mean"] == pytest.approx(np.zeros(4), abs=1e-6)
    assert (columns["z_loss"] == 0).all()


def test_sample_features_are_standardised_or_scaled() -> None:
    observation = seen(
        loss=[0, 1, 2, 3],
        loss_mean=[NAT, 0, 2 * NAT, 99],
        confidence=[1, 0, 0.5, 0.5],
        correct=[1, 0, 1, 0],
        forgetting=[0, 3, 0, 1],
        visits=[1, 4, 0, 2],
        loss_var=[0, NAT**2, (9 * NAT) ** 2, NAT**2 / 4],
        margin=[-1, 0, 1, 2],
        budget=1,
    )
    samples, _ = sample_features(observation, epochs=10, num_classes=10)
    columns = dict(zip(SAMPLE_FEATURES, samples[0].T.tolist(), strict=True))
    deviation = math.sqrt(1.25)
    assert columns["z_loss"] == pytest.approx(np.array([-1.5, -0.5, 0.5, 1.5]) / deviation)
    assert columns["loss_mean"] == pytest.approx([0, -1, 1, 3], abs=1e-6)
    assert columns["confidence"] == [1, -1, 0, 0]
    assert columns["correct"] == [1, -1, 1, -1]
    assert columns["forgetting"] == pytest.approx([0, 1, 0, 1 / 3])
    assert columns["forgetting_rate"] == pytest.approx([0, 0.75, 0, 0.5])
    assert columns["margin"] == pytest.approx([-0.1, 0, 0.1, 0.2])
    assert columns["deviation"] == pytest.approx([0, 1, 3, 0.5])
    assert columns["unvisited"] == [0, 0, 1, 0]
    assert columns["z_margin"] == columns["z_loss"]


def test_losses_are_compared_with_those_of_the_same_label_too() -> None:
    losses, labels = [[1, 3, 5, 7], [1, 3, 5, 7]], [[0, 0, 2, 2], [1, 0, 0, 1]]
    means = class_means(np.float32(losses), np.float32(labels))
    assert means.tolist() == [[2, 2, 6, 6], [4, 4, 4, 4]]
    observation = seen(loss=losses[0], loss_mean=losses[0], label=labels[0], budget=1)
    samples, _ = sample_features(observation, epochs=10, num_classes=10)
    columns = dict(zip(SAMPLE_FEATURES, samples[0].T.tolist(), strict=True))
    assert columns["z_class_loss"] == [-1, -1, 1, 1]
    assert columns["z_loss_in_class"] == [-1, 1, -1, 1]


@pytest.mark.parametrize("task", ["Digits", "Planted"])
def test_features_of_a_real_run_are_finite_and_small(task: str) -> None:
    env = make_vector(2, task=task)
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        samples, run = sample_features(observation, 4, 10)
        assert samples.shape == (2, 48, len(SAMPLE_FEATURES))
        assert run.shape == (2, len(CONTEXT_FEATURES))
        assert samples.dtype == run.dtype == np.float32
        assert np.abs(samples).max() <= 3
        assert np.abs(run).max() <= 3
        observation, *_ = env.step(np.random.default_rng(0).random((2, 48)) < 0.3)


# -- the scorer --------------------------------------------------------------------------------


def test_the_score_is_that_of_the_formula() -> None:
    scorer = Scorer(width=1)
    p = {name: np.zeros(shape, np.float32) for name, shape in scorer.shapes.items()}
    p["A"][0, 0], p["B"][1, 0], p["b"][0], p["w"][0] = 0.5, 2.0, 0.1, -0.3
    p["outer"][1], p["bias"][:] = (0.2, 0.4), (-0.5, 0.0)
    flat = np.concatenate([p[name].ravel() for name in scorer.shapes])
    samples = np.zeros((1, 2, len(SAMPLE_FEATURES)), np.float32)
    samples[0, 1, 0] = 1.0
    run = np.zeros((1, len(CONTEXT_FEATURES)), np.float32)
    run[0, 1] = 0.5
    scores, temperature, spend, weights = scorer.forward(flat, samples, run)
    assert weights is None
    inner = 2.0 * 0.5 + 0.1
    expected = [-0.3 * SCALE * math.tanh(inner), -0.3 * SCALE * math.tanh(inner + 0.5)]
    assert scores[0] == pytest.approx(expected)
    assert temperature == pytest.approx([10 ** (0.2 * 0.5 - 0.5)])
    assert spend == pytest.approx([2 ** (2 * math.tanh(0.4 * 0.5))])


def test_one_network_per_replica_scores_as_each_does_alone() -> None:
    scorer = Scorer(width=3, max_weight=1.0)
    rng = np.random.default_rng(1)
    flat = np.stack([random_scorer(seed, scorer)[1] for seed in range(3)])
    samples = rng.normal(size=(3, 5, len(SAMPLE_FEATURES))).astype(np.float32)
    run = rng.normal(size=(3, len(CONTEXT_FEATURES))).astype(np.float32)
    together = scorer.forward(flat, samples, run)
    for row in range(3):
        alone = scorer.forward(flat[row], samples[row : row + 1], run[row : row + 1])
        for one, other in zip(together, alone, strict=True):
            assert one[row] == pytest.approx(other[0], rel=1e-5)


@pytest.mark.parametrize(
    ("bounds", "theirs"),
    [
        ({"max_spend": 1.0}, "max_spend 2.0 plays otherwise with max_spend=1.0"),
        ({"max_spend": 0.0}, "max_spend 2.0 plays otherwise with max_spend=0.0"),
        ({"max_weight": 1.5}, "max_weight 0.6 plays otherwise with max_weight=1.5"),
        ({"max_weight": 0.0}, "max_weight 0.6 plays otherwise with max_weight=0.0"),
    ],
)
def test_a_scorer_does_not_go_on_within_other_bounds(bounds: dict[str, float], theirs: str) -> None:
    other, flat = random_scorer(1, Scorer(width=2, max_spend=2.0, max_weight=0.6))
    with pytest.raises(ValueError, match=f"{theirs}: leave it out, or take"):
        replace(other, **bounds).load_from(other, flat, np.random.default_rng(1))


def test_a_scorer_of_even_pace_may_learn_to_leave_it_and_starts_with_it() -> None:
    even, flat = random_scorer(1, Scorer(width=2, max_spend=0.0))
    free = Scorer(width=2, max_spend=2.0)
    samples = np.zeros((1, 4, len(SAMPLE_FEATURES)), np.float32)
    run = np.ones((1, len(CONTEXT_FEATURES)), np.float32)
    assert free.forward(flat, samples, run).spend != 1
    same = free.load_from(even, flat, np.random.default_rng(1))
    assert free.forward(same, samples, run).spend == 1


def test_gradient_weights_are_bounded_powers_of_two_and_start_at_one() -> None:
    masks, scorer = Scorer(width=2), Scorer(width=2, max_weight=1.5)
    _, flat = random_scorer(1, masks)
    flat = scorer.load_from(masks, flat, np.random.default_rng(1))
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(2, 4, len(SAMPLE_FEATURES))).astype(np.float32)
    run = rng.normal(size=(2, len(CONTEXT_FEATURES))).astype(np.float32)
    same, other = (
        scorer.forward(flat, samples, run),
        masks.forward(random_scorer(1, masks)[1], samples, run),
    )
    assert same.weights is not None
    assert (same.weights == 1).all()
    for one, two in zip(same[:3], other[:3], strict=True):
        assert np.array_equal(one, two)
    p = scorer.split(flat)
    p["bias"][2] = 0.4
    weights = scorer.forward(flat, samples, run).weights
    assert weights == pytest.approx(np.full((2, 4), 2 ** (1.5 * math.tanh(0.4))))
    p["v"][:] = 100 * rng.normal(size=2)
    weights = scorer.forward(flat, samples, run).weights
    assert weights.min() >= 2**-1.5 - 1e-6
    assert weights.max() <= 2**1.5 + 1e-6


@given(st.permutations(range(6)), st.integers(0, 100))
def test_the_scorer_is_equivariant_to_the_order_of_the_samples(order: list[int], seed: int) -> None:
    scorer, flat = random_scorer(seed)
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(1, 6, len(SAMPLE_FEATURES))).astype(np.float32)
    run = rng.normal(size=(1, len(CONTEXT_FEATURES))).astype(np.float32)
    scores = scorer.forward(flat, samples, run).scores
    moved = scorer.forward(flat, samples[:, order], run).scores
    assert moved == pytest.approx(scores[:, order], rel=1e-5, abs=1e-6)


def test_gumbel_noise_samples_from_the_softmax() -> None:
    logits = np.array([0.0, 1.0, 2.0])
    noisy = logits + gumbel(3, ReplicaRandom(MANY))
    expected = np.exp(logits) / np.exp(logits).sum()
    assert_frequencies(np.eye(3)[noisy.argmax(1)], expected)


# -- the agent ---------------------------------------------------------------------------------


def test_a_scorer_of_zeros_is_dynamic_random_at_an_even_pace() -> None:
    scorer = Scorer(width=2)
    agent = InTraining(scorer, np.zeros(scorer.num_parameters, np.float32))
    game = episode(8, budget=0.25, seeds=MANY)
    agent.reset(game)
    columns = {"loss": np.arange(8), "loss_var": 0, "forgetting": 0, "label": 0}
    mask = agent.select(observed(game, 0, **columns))
    assert (mask.sum(axis=1) == 2).all()
    assert_frequencies(mask, 0.25)


def test_a_policy_file_plays_as_the_network_that_was_saved(tmp_path: Path) -> None:
    scorer, flat = random_scorer(2)
    path = tmp_path / "policy.zip"
    save_scorer(path, scorer, flat, {"seed": 2})
    loaded, parameters = load_scorer(str(path))
    assert loaded == scorer
    assert np.array_equal(parameters, flat)
    runs = []
    for agent in (Learned(str(path)), InTraining(scorer, flat)):
        runs.append(run_episodes("DynPrune-Digits-v0", agent, [0, 1], env_kwargs=SMALL))
    for one, other in zip(*runs, strict=True):
        assert (one.selections, one.test_loss) == (other.selections, other.test_loss)


def test_a_file_that_was_overwritten_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "policy.zip"
    for seed in (0, 1):
        scorer, flat = random_scorer(seed)
        save_scorer(path, scorer, flat, {})
        assert np.array_equal(load_scorer(str(path))[1], flat)


def test_a_wrong_policy_is_refused_with_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no policy file 'nobody'; the shipped ones are cautious, "
    ):
        load_scorer("nobody")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.zip is not a policy that `dynprune train` wrote"):
        load_scorer(str(tmp_path / "text.zip"))
    scorer, flat = random_scorer()
    save_scorer(tmp_path / "old.zip", scorer, flat, {})
    content = dict(np.load(tmp_path / "old.zip"))
    content["head"] = str(content["head"]).replace("z_age", "z_rank")
    np.savez(tmp_path / "old.npz", **content)
    with pytest.raises(ValueError, match=r"trained on features that are no more: z_rank"):
        load_scorer(str(tmp_path / "old.npz"))


def test_a_policy_trained_before_a_feature_came_plays_as_it_did(tmp_path: Path) -> None:
    scorer, flat = random_scorer()
    parts = scorer.split(flat.copy())
    parts["A"][SAMPLE_FEATURES.index("z_age")] = 0
    parts["B"][-1] = parts["outer"][-1] = 0
    expected = np.concatenate([part.ravel() for part in parts.values()])
    save_scorer(tmp_path / "now.npz", scorer, flat, {})
    content = dict(np.load(tmp_path / "now.npz"))
    head = json.loads(str(content["head"]))
    head["sample_features"].remove("z_age")
    head["run_features"].pop()
    content |= {"head": json.dumps(head), "B": content["B"][:-1], "outer": content["outer"][:-1]}
    content["A"] = np.delete(content["A"], SAMPLE_FEATURES.index("z_age"), axis=0)
    np.savez(tmp_path / "before.npz", **content)
    assert np.array_equal(load_scorer(str(tmp_path / "before.npz"))[1], expected)


def test_a_wider_network_plays_what_it_loads_from_a_narrow_one() -> None:
    narrow, wide = Scorer(width=3), Scorer(width=5)
    _, flat = random_scorer(1, narrow)
    loaded = wide.load_from(narrow, flat, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(2, 4, len(SAMPLE_FEATURES))).astype(np.float32)
    run = rng.normal(size=(2, len(CONTEXT_FEATURES))).astype(np.float32)
    one, two = narrow.forward(flat, samples, run), wide.forward(loaded, samples, run)
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-5)
    assert (wide.split(loaded)["A"][:, 3:] != 0).all()
    with pytest.raises(ValueError, match="width 5 does not fit into 3"):
        narrow.load_from(wide, loaded, rng)


SHIPPED = sorted(path for path in FOLDER.iterdir() if path.suffix == ".npz")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_policy_is_small_and_has_a_card(path: Path) -> None:
    assert path.stat().st_size < 100_000
    card = path.with_suffix(".md").read_text()
    for word in ("dynprune train", "--seed", "visits", "**Trained on**", "**Results**"):
        assert word in card, word


def test_the_shipped_clone_is_the_default() -> None:
    assert repr(dynprune_agents.make("learned(policy='cautious')")) == "learned"
    assert dynprune_agents.make("learned").files() == [FOLDER / "cautious.npz"]


@pytest.mark.parametrize(
    "name",
    [
        "learned",
        "learned(policy='weighted')",
        "learned(policy='robust')",
    ],
)
def test_shipped_policies_beat_dynamic_random_where_labels_are_wrong(name: str) -> None:
    kwargs = {"budget": 0.5, "label_noise": 0.4, "data_seed": 7}
    accuracy = {}
    for spec in (name, "dynamic_random"):
        agent = dynprune_agents.make(spec)
        results = run_episodes("DynPrune-Digits-v0", agent, range(16), env_kwargs=kwargs)
        accuracy[spec] = np.array([result.test_accuracy for result in results])
    lead = accuracy[name] - accuracy["dynamic_random"]
    assert lead.mean() > 2 * lead.std(ddof=1) / 4
