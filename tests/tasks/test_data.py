"""The data are what is declared, and their corruption is exact, seeded and known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from helpers.episodes import make
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets as sklearn_datasets

from dynprune_env import TASK_NAMES
from dynprune_env.envs.settings import Settings
from dynprune_env.tasks import datasets
from dynprune_env.tasks.datasets import (
    CIFAR10,
    DIGITS,
    FASHION_MNIST,
    PAIRS,
    PLANTED,
    SHIFTS,
    DataNotFoundError,
    DatasetInfo,
    Split,
    apportion,
    read_raw,
    stratified,
)
from dynprune_env.tasks.registry import TASKS
from dynprune_env.tasks.variants import Dataset, Variant, load_dataset


@pytest.fixture(params=[task for task in TASK_NAMES if not task.endswith("Small")])
def source(request: pytest.FixtureRequest, need_data: Callable[[str], None]) -> DatasetInfo:
    """Every data set that can be read here."""
    need_data(request.param)
    return TASKS[request.param].info


def build(source: DatasetInfo, **variant: Any) -> Dataset:
    return Variant(**variant).build(source, None, False)


def contents(*splits: Split) -> Counter[tuple[bytes, int]]:
    """How often each labelled image occurs, in whatever order."""
    found: Counter[tuple[bytes, int]] = Counter()
    for split in splits:
        rows = split.inputs.flatten(1).numpy()
        found.update(zip(map(bytes, rows), split.labels.tolist(), strict=True))
    return found


def counts(labels: Any, num_classes: int) -> np.ndarray:
    return np.bincount(np.asarray(labels), minlength=num_classes)


# -- what was published ------------------------------------------------------------------------


def test_what_a_source_declares_is_true_of_what_is_read(source: DatasetInfo) -> None:
    pool = read_raw(source, None, False)
    assert len(pool.train) == source.num_available
    for split in (pool.train, pool.test):
        assert split.inputs.shape == (len(split), *source.input_shape)
        numbers = torch.int64 if source.vocabulary else torch.float32
        assert split.inputs.dtype == (torch.uint8 if source.mean else numbers)
        if source.vocabulary:
            assert 0 <= split.inputs.min() <= split.inputs.max() < source.vocabulary
        assert split.labels.dtype == torch.int64
        assert set(split.labels.tolist()) == set(range(source.num_classes))


@pytest.mark.parametrize("data_seed", [0, 1])
def test_every_class_has_the_samples_that_its_source_is_sure_of(
    source: DatasetInfo, data_seed: int
) -> None:
    train = build(source, data_seed=data_seed).train
    assert counts(train.labels, source.num_classes).min() >= source.class_size


def test_the_declared_mean_and_deviation_are_those_of_the_pixels(source: DatasetInfo) -> None:
    images = read_raw(source, None, False).train.inputs[:5000]
    assert len(source.mean) == len(source.std) == (0 if images.dim() == 2 else images.shape[1])
    if source.mean:
        channels = images.transpose(0, 1).flatten(1) / 255
        assert channels.mean(1).tolist() == pytest.approx(source.mean, abs=0.01)
        assert channels.std(1).tolist() == pytest.approx(source.std, abs=0.01)


def test_shifts_are_the_digits_as_pixels_that_move_in_training_alone() -> None:
    digits, images = (read_raw(info, None, False) for info in (DIGITS, SHIFTS))
    for split in ("train", "test"):
        features, pixels = (getattr(raw, split).inputs for raw in (digits, images))
        assert torch.equal(pixels.flatten(1), torch.round(255 * features).to(torch.uint8))
        assert torch.equal(getattr(digits, split).labels, getattr(images, split).labels)
    env = make(task="Shifts", train_size=100, budget=1.0)
    env.reset(seed=0)
    tables = env.trainer.learner.inputs
    assert [tables[split].crop for split in ("train", "val", "test")] == [2, 0, 0]


def test_pairs_are_two_digits_side_by_side_and_every_class_is_as_large() -> None:
    digits, pairs = (read_raw(info, None, False) for info in (SHIFTS, PAIRS))
    for split, per_class in (("train", 30), ("test", 10)):
        own, two = getattr(digits, split), getattr(pairs, split)
        assert np.bincount(two.labels).tolist() == [per_class] * 100
        of_digit = [
            {image.numpy().tobytes() for image in own.inputs[own.labels == digit]}
            for digit in range(10)
        ]
        for image, label in zip(two.inputs[::7], two.labels[::7].tolist(), strict=True):
            for half, digit in zip(image.split(8, dim=2), divmod(label, 10), strict=True):
                assert half.contiguous().numpy().tobytes() in of_digit[digit]


def test_train_and_val_share_out_the_pool_and_val_is_stratified(source: DatasetInfo) -> None:
    pool, dataset = read_raw(source, None, False), build(source, data_seed=3)
    assert len(dataset.val) == source.num_val
    assert contents(dataset.train, dataset.val) == contents(pool.train)
    share = source.num_val / source.num_available
    expected = counts(pool.train.labels, source.num_classes) * share
    assert np.abs(counts(dataset.val.labels, source.num_classes) - expected).max() < 1


def test_the_data_seed_draws_val_and_train_and_leaves_test_alone(source: DatasetInfo) -> None:
    pool = read_raw(source, None, False)
    one, again, other = (build(source, train_size=50, data_seed=seed) for seed in (1, 1, 2))
    assert contents(one.val) == contents(again.val) != contents(other.val)
    assert torch.equal(one.train.inputs, again.train.inputs)
    assert contents(one.train) != contents(other.train)
    for dataset in (one, other):
        assert torch.equal(dataset.test.inputs, pool.test.inputs)
        assert torch.equal(dataset.test.labels, pool.test.labels)


def test_train_samples_come_in_random_order() -> None:
    labels = build(PLANTED).train.labels.numpy()
    assert np.count_nonzero(labels[1:] == labels[:-1]) == pytest.approx(100, abs=50)


@given(st.integers(0, 10_000), st.lists(st.floats(0.001, 1000), min_size=1, max_size=20))
def test_apportioned_parts_are_whole_and_within_one_of_their_share(
    total: int, shares: list[float]
) -> None:
    exact = total * np.array(shares) / sum(shares)
    parts = apportion(total, np.array(shares))
    assert parts.sum() == total
    assert np.abs(parts - exact).max() < 1 + 1e-6


def test_a_class_that_is_too_small_for_its_share_is_named() -> None:
    with pytest.raises(ValueError, match=r"3 samples of class 1 .* there are 2"):
        stratified(np.array([0, 1, 1]), np.array([1, 3]), np.random.default_rng(0))


# -- what a task makes of it -------------------------------------------------------------------


@st.composite
def possible_variants(draw: st.DrawFn) -> Variant:
    """Any combination of corruptions that the planted data allow."""
    variant = Variant(
        train_size=draw(st.none() | st.integers(100, 1000)),
        label_noise=draw(st.floats(0, 1)),
        imbalance=draw(st.just(1.0) | st.floats(0.1, 1)),
        duplicates=draw(st.floats(0, 0.99)),
        data_seed=draw(st.integers(0, 2**32)),
    )
    if variant.imbalance < 1 and variant.train_size is not None:
        # The commonest class may have at most the 100 samples that are there.
        most = int(100 * sum(variant.imbalance ** (c / 9) for c in range(10)))
        variant = Variant(**{**vars(variant), "train_size": min(variant.train_size, most - 10)})
    variant.check(PLANTED)
    return variant


@given(possible_variants())
def test_corruptions_are_exact_and_known_in_any_combination(variant: Variant) -> None:
    dataset = variant.build(PLANTED, None, False)
    n, copies = len(dataset.train), dataset.duplicate_of >= 0
    assert n == variant.num_samples(PLANTED)
    assert n == (variant.train_size or n)

    # Label noise.
    labels = dataset.train.labels.numpy()
    assert dataset.redrawn.sum() == round(variant.label_noise * n)
    assert np.array_equal(dataset.corrupted, labels != dataset.clean_labels)
    assert not (dataset.corrupted & ~dataset.redrawn).any()

    # Duplicates: originals are distinct, and repeated equally often, in each class by itself where
    # classes are uneven.
    classes = dataset.clean_labels if variant.imbalance < 1 else np.zeros(n, dtype=np.int64)
    sizes = np.bincount(classes)
    wanted = apportion(round(variant.duplicates * n), sizes)
    assert np.array_equal(
        np.bincount(classes[copies], minlength=len(sizes)), wanted.clip(max=sizes - 1)
    )
    originals = dataset.duplicate_of[copies]
    assert not copies[originals].any()
    assert torch.equal(dataset.train.inputs[copies], dataset.train.inputs[originals])
    assert np.array_equal(dataset.clean_labels[copies], dataset.clean_labels[originals])
    distinct = contents(Split(dataset.train.inputs[~copies], dataset.train.labels[~copies]))
    assert max(distinct.values()) == 1
    repeats = counts(originals, n)
    for group in range(len(sizes)):
        assert np.ptp(repeats[~copies & (classes == group)]) <= 1

    # Every sample is the pool's, under its own label; val and test are clean.
    clean = Split(dataset.train.inputs, torch.from_numpy(dataset.clean_labels))
    pool = contents(read_raw(PLANTED, None, False).train)
    assert contents(clean).keys() <= pool.keys() - contents(dataset.val).keys()
    assert contents(dataset.val) <= pool
    assert dataset.test is read_raw(PLANTED, None, False).test


@given(st.integers(1, 1000), st.integers(0, 2**32))
def test_a_subset_keeps_the_shares_of_the_classes(train_size: int, data_seed: int) -> None:
    dataset = build(DIGITS, train_size=train_size, data_seed=data_seed)
    everything = counts(build(DIGITS, data_seed=data_seed).train.labels, 10)
    expected = everything * train_size / everything.sum()
    assert np.abs(counts(dataset.train.labels, 10) - expected).max() < 1


def test_duplicates_leave_imbalanced_classes_as_large_as_they_are() -> None:
    rare = {"imbalance": 0.02, "data_seed": 1}
    sizes = counts(build(DIGITS, **rare).train.labels, 10)
    assert sizes.tolist() == [96, 62, 40, 26, 16, 10, 7, 4, 2, 1]
    repeated = build(DIGITS, **rare, duplicates=0.6)
    assert np.array_equal(counts(repeated.train.labels, 10), sizes)
    assert (repeated.duplicate_of >= 0).sum() == 157  # 0.6 of 264 is 158: one class has one sample


@pytest.mark.parametrize("train_size", [None, 300])
@pytest.mark.parametrize("imbalance", [0.05, 0.1, 0.5])
def test_imbalanced_classes_fall_geometrically_to_the_ratio(
    train_size: int | None, imbalance: float
) -> None:
    sizes = counts(build(DIGITS, train_size=train_size, imbalance=imbalance).train.labels, 10)
    if train_size is None:
        assert sizes[0] == DIGITS.class_size
    else:
        assert sizes.sum() == train_size
    assert sizes == pytest.approx(sizes[0] * imbalance ** (np.arange(10) / 9), abs=1.5)


@pytest.mark.parametrize("others", [{}, {"train_size": 300, "imbalance": 0.2, "duplicates": 0.5}])
def test_label_noise_changes_labels_and_nothing_else(others: dict[str, Any]) -> None:
    clean, noisy = (build(DIGITS, label_noise=noise, **others) for noise in (0.0, 0.4))
    assert torch.equal(clean.train.inputs, noisy.train.inputs)
    assert np.array_equal(clean.clean_labels, noisy.clean_labels)
    assert np.array_equal(clean.duplicate_of, noisy.duplicate_of)
    assert contents(clean.val) == contents(noisy.val)
    assert noisy.corrupted.any()
    assert not clean.corrupted.any()


def test_duplicates_change_neither_the_noise_nor_val() -> None:
    plain, repeated = (build(DIGITS, label_noise=0.4, duplicates=share) for share in (0.0, 0.5))
    assert np.array_equal(plain.redrawn, repeated.redrawn)
    redrawn = torch.from_numpy(plain.redrawn)
    assert torch.equal(plain.train.labels[redrawn], repeated.train.labels[redrawn])
    originals = repeated.duplicate_of < 0
    assert torch.equal(plain.train.inputs[originals], repeated.train.inputs[originals])
    assert contents(plain.val) == contents(repeated.val)


def test_redrawn_labels_are_uniform_over_all_classes_the_old_one_included() -> None:
    dataset = build(DIGITS, label_noise=1.0)
    assert counts(dataset.train.labels, 10) == pytest.approx(np.full(10, 100), abs=50)
    assert dataset.corrupted.mean() == pytest.approx(0.9, abs=0.05)


def test_most_labels_of_the_planted_data_are_noise_and_the_rest_suffice() -> None:
    dataset = build(PLANTED, **vars(TASKS["Planted"].variant))
    assert (len(dataset.train), dataset.redrawn.sum()) == (1000, 800)

    def accuracy_from(chosen: np.ndarray) -> float:
        """Test accuracy of the nearest class mean of the chosen train samples."""
        images, labels = dataset.train.inputs[chosen], dataset.train.labels[chosen]
        means = torch.stack([images[labels == label].mean(0) for label in range(10)])
        nearest = torch.cdist(dataset.test.inputs, means).argmin(1)
        return float((nearest == dataset.test.labels).float().mean())

    assert accuracy_from(~dataset.redrawn) > 0.9
    assert accuracy_from(dataset.redrawn) < 0.5


def test_an_environment_shows_what_was_corrupted_but_does_not_observe_it() -> None:
    env = make(label_noise=0.5, duplicates=0.25)
    observation, _ = env.reset(seed=0)
    assert env.dataset.redrawn.sum() == 24
    assert (env.dataset.duplicate_of >= 0).sum() == 12
    assert np.array_equal(observation["label"], env.dataset.train.labels)
    known = (env.dataset.redrawn, env.dataset.corrupted, env.dataset.duplicate_of)
    assert not any(
        np.array_equal(column, fact) for column in observation.values() for fact in known
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"label_noise": 1.5}, r"label_noise .* \[0, 1\], got 1.5"),
        ({"label_noise": -0.1}, r"label_noise .* \[0, 1\], got -0.1"),
        ({"label_noise": float("nan")}, r"label_noise .* got nan"),
        ({"label_noise": "much"}, "label_noise.*much"),
        ({"imbalance": 0}, r"imbalance .* \(0, 1\], got 0"),
        ({"imbalance": 2.0}, r"imbalance .* \(0, 1\], got 2.0"),
        ({"duplicates": 1.0}, r"duplicates .* \[0, 1\), got 1.0"),
        ({"train_size": 0}, r"train_size .* \[1, 1000\] for Digits \(300 more .* val\), got 0"),
        ({"train_size": 1001}, r"train_size .* \[1, 1000\] for Digits .* got 1001"),
        ({"train_size": 60.5}, r"train_size.*60\.5"),
        ({"data_seed": -1}, "data_seed.*-1"),
        ({"imbalance": 0.1, "train_size": 500}, r"needs 1\d\d samples of class 0, .* has 96"),
        ({"imbalance": 0.01, "train_size": 10}, r"imbalance=0\.01 with train_size=10"),
        ({"task": "CIFAR10", "train_size": 45_001}, r"\[1, 45000\] for CIFAR10 .* got 45001"),
        ({"task": "digits"}, r"there are Digits, .* mean 'Digits'"),
    ],
)
def test_what_is_impossible_is_refused_before_anything_is_read(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        Settings(**settings)


# -- where it lies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "data_dir", "expected"),
    [
        ({"DYNPRUNE_DATA": "variable"}, "argument", "argument"),
        ({"DYNPRUNE_DATA": "variable", "XDG_CACHE_HOME": "cache"}, None, "variable"),
        ({"XDG_CACHE_HOME": "cache"}, None, "cache/dynprune"),
        ({}, None, "home/.cache/dynprune"),
        ({"DYNPRUNE_DATA": ""}, None, "home/.cache/dynprune"),
        ({}, "~/mine", "home/mine"),
    ],
)
@pytest.mark.parametrize("published", [FASHION_MNIST, CIFAR10], ids=lambda each: each.name)
def test_the_argument_then_the_variable_then_the_cache_is_searched(
    published: DatasetInfo,
    variables: dict[str, str],
    data_dir: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DYNPRUNE_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in {**variables, "HOME": "home"}.items():
        monkeypatch.setenv(name, folder and str(tmp_path / folder))
    if data_dir and not data_dir.startswith("~"):
        data_dir = str(tmp_path / data_dir)
    with pytest.raises(DataNotFoundError) as problem:
        published.read(data_dir, False)
    assert f"{tmp_path / expected} " in str(problem.value)
    assert "$DYNPRUNE_DATA" in str(problem.value)


@pytest.mark.parametrize(
    ("published", "files"),
    [(FASHION_MNIST, "train-images-idx3-ubyte"), (CIFAR10, "cifar-10-batches-py")],
    ids=["FashionMNIST", "CIFAR10"],
)
def test_a_failed_download_says_in_one_line_why_and_what_to_do(
    published: DatasetInfo, files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    for module in (torchvision.datasets.mnist, torchvision.datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", fail)
    with pytest.raises(DataNotFoundError) as problem:
        published.read(str(tmp_path), True)
    message = str(problem.value)
    for part in (published.name, str(tmp_path), files, "not be downloaded", "no route to host"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("left", [b"", b"\0\0\x08\x01\0\0\0\x09\x07"], ids=["empty", "header"])
def test_files_cut_short_are_missing_data_and_not_a_crash(left: bytes, tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(left)
    with pytest.raises(DataNotFoundError, match="FashionMNIST was not found"):
        FASHION_MNIST.read(str(tmp_path), False)


def test_data_are_read_once_per_process() -> None:
    device = torch.device("cpu")
    one, again, other = (
        load_dataset(DIGITS, Variant(data_seed=seed), None, False, device) for seed in (5, 5, 6)
    )
    assert one is again
    assert other is not one
    assert other.test.inputs is one.test.inputs
    envs = [make(), make()]
    for env in envs:
        env.reset(seed=0)
    assert envs[0].dataset is envs[1].dataset


@pytest.mark.parametrize("is_found", [True, False])
def test_digits_are_those_of_scikit_learn(is_found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_found:
        monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    for ours, theirs in zip(
        datasets.load_digits(), sklearn_datasets.load_digits(return_X_y=True), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
