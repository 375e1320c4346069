"""The observation of a run: short, bounded, and what the features of a run say."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium import spaces
from helpers.episodes import assert_same, make_vector, random_masks

from dynprune_agents.policies._features import sample_features
from dynprune_env import DynPruneVectorEnv
from dynprune_env.selection.features import (
    RUN_FEATURES,
    label_features,
    label_shares,
    quantiles,
)
from dynprune_env.selection.observations import OBSERVATIONS, Diagnostics, Run, TaskSize
from dynprune_env.selection.statistics import SampleStatistics


def test_a_run_is_a_one_and_its_features_as_policies_compute_them_from_samples() -> None:
    envs = [make_vector(3, observation=kind, budget=0.4) for kind in ("run", "samples")]
    seen, samples = (env.reset(seed=0)[0] for env in envs)
    for mask in random_masks(envs[0], 4, np.array([0.9, 0.5, 0.1])[:, None]):
        _, expected = sample_features(samples, 4, 10)
        assert seen.shape == (3, 12)
        assert seen.dtype == np.float32
        assert_same(seen[:, 1:], expected[:, : len(RUN_FEATURES)])
        assert (seen[:, 0] == 1).all()
        assert all(envs[0].single_observation_space.contains(row) for row in seen)
        seen, samples = (env.step(mask)[0] for env in envs)
    assert ("one", *RUN_FEATURES) == Run.NAMES


def test_a_run_is_observed_without_a_copy_of_the_samples() -> None:
    env = make_vector(2, observation="run")
    env.reset(seed=0)
    made: list[str] = []
    lent = SampleStatistics._lent

    def watched(self: SampleStatistics, name: str, epoch: np.ndarray) -> np.ndarray:
        made.append(name)
        return lent(self, name, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleStatistics, "_lent", watched)
        env.step(np.ones((2, 48)))
    assert sorted(made) == ["confidence", "correct", "loss", "visits"]


def test_lent_columns_are_the_copies_and_cannot_be_written_to() -> None:
    env = make_vector(2)
    env.reset(seed=0)
    env.step(random_masks(env, 1)[0])
    statistics, epoch = env.trainer.statistics, env.trainer.budget.epoch
    copies, lent = statistics.columns(epoch), statistics.lend(epoch)
    assert tuple(lent) == tuple(copies) == SampleStatistics.COLUMNS
    assert len(lent) == len(copies)
    assert_same(dict(lent), copies)
    assert all(column.dtype == np.float32 for column in lent.values())
    assert all(column.flags.writeable for column in copies.values())
    with pytest.raises(ValueError, match="read-only"):
        lent["loss"][:] = 0
    before = statistics.loss.copy()
    for column in copies.values():
        column[:] = -1
    assert_same(statistics.loss, before)


def test_what_samples_are_observed_is_the_observers_own() -> None:
    env, other = make_vector(2), make_vector(2)
    seen, _ = env.reset(seed=0)
    other.reset(seed=0)
    masks = random_masks(env, 3)
    for mask in masks:
        for column in seen.values():
            column[:] = 3
        seen, *_ = env.step(mask)
        expected, *_ = other.step(mask)
        assert_same(seen, expected)


@pytest.mark.parametrize("n", [1, 2, 3, 11, 48, 1000])
def test_quantiles_are_those_of_numpy(n: int) -> None:
    rng = np.random.default_rng(n)
    shares = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
    for values in (rng.normal(size=(3, n)), rng.integers(0, 4, (3, n)), np.zeros((3, n))):
        values = values.astype(np.float32)
        found = quantiles(values, shares)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, np.quantile(values, shares, -1))


def test_the_features_of_a_run_are_clipped_into_the_space() -> None:
    columns = SampleStatistics(1, np.zeros(4, dtype=np.int64), 2).columns(np.zeros(1))
    progress = np.array([[0, 0, 0, 1, 20, 0, 20]], dtype=np.float32)
    seen = Run(TaskSize(4, 10**12, 2)).observe(columns, progress)
    assert seen[0, 1 + RUN_FEATURES.index("visits")] == 10
    assert Run(TaskSize(4, 10**12, 2)).space().contains(seen[0])


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_zeros_which_libraries_fill_in_lie_in_every_space(kind: str) -> None:
    space = OBSERVATIONS[kind](TaskSize(5, 3, 4)).space()
    boxes = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    for box in boxes:
        assert box.contains(np.zeros(box.shape, box.dtype))


def test_label_features_by_hand() -> None:
    """Three classes; the best other one always has a probability of 0.6."""
    confidence = np.array([[0.2, 0.3, 0.1, 0.7, 0.1]], dtype=np.float32)
    margin = np.log(confidence / 0.6).astype(np.float32)
    columns = {
        "confidence": confidence,
        "margin": margin,
        "correct": np.array([[0, 0, 0, 1, 0]], dtype=np.float32),
        "visits": np.array([[3, 4, 1, 5, 0]], dtype=np.float32),
        "forgetting": np.array([[0, 2, 0, 1, 0]], dtype=np.float32),
    }
    shares = label_shares(columns, 3)[0]
    # Of the 0.4 that is left: a half, three quarters, a quarter; more than all; unvisited.
    assert shares[:4] == pytest.approx([0, math.log2(1.5), -1, 1], abs=1e-5)
    mean = (0 + math.log2(1.5) - 1) / 3
    found = label_features(columns, 3)[0]
    assert found == pytest.approx([mean, 1 / 3, 0.5], abs=1e-5)


def test_without_a_wrong_prediction_there_are_no_label_features() -> None:
    columns = SampleStatistics(2, np.zeros(4, dtype=np.int64), 4).columns(np.zeros(2))
    assert (label_features(columns, np.array([4, 2])) == 0).all()


def test_diagnostics_tell_wrong_labels_from_hard_samples() -> None:
    """Digits moved by up to two pixels are as hard as labels are wrong; means of the last half."""
    found = {}
    for noise in (0.0, 0.2):
        kwargs = {"task": "Shifts", "label_noise": noise, "epochs": 20, "budget": 0.3}
        env = DynPruneVectorEnv(4, "Disabled", observation="diagnostics", **kwargs)
        env.reset(seed=0)
        seen = [env.step(mask)[0] for mask in keep_shares(env, 0.3, 19)]
        found[noise] = dict(zip(Diagnostics.NAMES, np.mean(seen[10:], axis=(0, 1)), strict=True))
    clean, noisy = found[0.0], found[0.2]
    assert clean["label_share"] > noisy["label_share"] + 0.2
    assert noisy["label_implausible"] > clean["label_implausible"] + 0.1
    assert clean["once_right"] > noisy["once_right"] + 0.1


def keep_shares(env: DynPruneVectorEnv, share: float, epochs: int) -> Iterator[np.ndarray]:
    """Random masks."""
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        yield (rng.random((env.num_envs, env.settings.num_samples)) < share).astype(np.int8)
