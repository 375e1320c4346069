"""What a task does to a data set: val split, subset, imbalance, duplicates, label noise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.alone import as_alone
from dynprune_env.common.checks import real, whole
from dynprune_env.tasks.datasets import (
    DatasetInfo,
    Split,
    apportion,
    data_folder,
    read_raw,
    stratified,
)
from dynprune_env.tasks.inputs import Streamed, sampled
from dynprune_env.tasks.losses import CLASSES


@dataclass(frozen=True)
class Dataset:
    """The data of one task, on one device.

    Attributes:
        train: n samples, in random order.
        val: held out of the published training set, stratified, clean labels.
        test: the published test split, clean labels.
        clean_labels: (n,) int64, the train labels before label noise; (n, ...) float32 where they
            are no classes.
        redrawn: (n,) bool, whether the label was redrawn (it may have come out the same).
        duplicate_of: (n,) int64, the train id that a sample repeats, -1 for originals.
    """

    info: DatasetInfo
    train: Split
    val: Split
    test: Split
    clean_labels: np.ndarray
    redrawn: np.ndarray
    duplicate_of: np.ndarray

    @property
    def corrupted(self) -> np.ndarray:
        """(n,) bool, whether the train label is wrong."""
        wrong = self.train.labels.cpu().numpy() != self.clean_labels
        found: np.ndarray = wrong.reshape(len(wrong), -1).any(1)
        return found

    @cached_property
    def content_hash(self) -> str:
        """Hash of the inputs and labels of all splits; of streamed inputs, of some of them."""
        found = hashlib.blake2b(digest_size=8)
        for split in (self.train, self.val, self.test):
            inputs = sampled(split.inputs) if isinstance(split.inputs, Streamed) else split.inputs
            for table in (inputs, split.labels):
                array = table.cpu().contiguous().numpy()
                found.update(f"{array.dtype} {array.shape}".encode())
                found.update(array.data)
        return found.hexdigest()

    @cached_property
    def apart(self) -> Dataset:
        """A copy of what runs learn and observe; made once, when it is asked for.

        What is done to it reaches no run. The test split is the one that evaluations read.
        """
        return replace(
            self,
            train=_copied(self.train),
            val=_copied(self.val),
            clean_labels=self.clean_labels.copy(),
            redrawn=self.redrawn.copy(),
            duplicate_of=self.duplicate_of.copy(),
        )


def _copied(split: Split) -> Split:
    inputs = split.inputs.clone() if isinstance(split.inputs, Tensor) else split.inputs
    return Split(inputs, split.labels.clone())


def check_size(train_size: int | None, info: DatasetInfo) -> None:
    """Checks n against a data set before it is read.

    Raises:
        ValueError: the data set has fewer samples, or n is below 1.
    """
    if train_size is not None and not 1 <= train_size <= info.num_train:
        raise ValueError(
            f"train_size must be in [1, {info.num_train}] for {info.name} "
            f"({info.num_val} more are held out for val), got {train_size}"
        )


@dataclass(frozen=True)
class Variant:
    """How the train split is drawn and corrupted; exact in every share, a function of `data_seed`.

    Attributes:
        train_size: n; None takes all that is left beside val.
        label_noise: share of train labels redrawn uniformly from all classes, in [0, 1]. This and
            imbalance are for tasks of one class a sample.
        imbalance: size of the rarest class over the commonest, in (0, 1]; sizes fall
            geometrically with the class index.
        duplicates: share of the n train samples that repeat another one, in [0, 1). With imbalance
            that share of each class, which keeps one original at least.
        data_seed: draws the val split, the subset and the corruption; the test split is fixed.
    """

    train_size: int | None = None
    label_noise: float = 0.0
    imbalance: float = 1.0
    duplicates: float = 0.0
    data_seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values; numpy's numbers become Python's.

        Raises:
            ValueError: one is not as described above.
        """
        checked = {
            "label_noise": real("label_noise is a share", self.label_noise, "[0, 1]"),
            "imbalance": real("imbalance is rarest / commonest", self.imbalance, "(0, 1]"),
            "duplicates": real("duplicates is a share", self.duplicates, "[0, 1)"),
            "data_seed": whole("data_seed", self.data_seed, 0),
        }
        if self.train_size is not None:
            checked["train_size"] = whole("train_size", self.train_size, 1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def check(self, info: DatasetInfo) -> None:
        """Checks the values against a data set before it is read.

        Raises:
            ValueError: the data set is too small.
        """
        check_size(self.train_size, info)
        if self.imbalance < 1:
            counts = self._class_counts(info)
            chosen = f"imbalance={self.imbalance} with train_size={self.train_size}"
            if counts.max() > info.class_size:
                raise ValueError(
                    f"{chosen} needs {counts.max()} samples of class 0, "
                    f"but {info.name} has {info.class_size}"
                )
            if counts.min() == 0:
                raise ValueError(f"{chosen} leaves a class without samples")

    def check_labels(self, info: DatasetInfo) -> None:
        """Checks that what is done to classes is done to classes.

        Raises:
            ValueError: the labels of the data set are of another kind.
        """
        if info.labels != CLASSES and (self.label_noise > 0 or self.imbalance < 1):
            raise ValueError(
                f"label_noise and imbalance are for tasks of one class a sample, got "
                f"label_noise={self.label_noise} and imbalance={self.imbalance} for {info.name}, "
                f"whose labels are {info.labels}"
            )

    def num_samples(self, info: DatasetInfo) -> int:
        """The number of train samples n, known before the data are read."""
        if self.imbalance < 1:
            return int(self._class_counts(info).sum())
        return info.num_train if self.train_size is None else self.train_size

    def _class_counts(self, info: DatasetInfo) -> np.ndarray:
        """Train samples of each class under `imbalance`, (C,) int64."""
        profile = self.imbalance ** np.linspace(0, 1, info.num_classes)
        if self.train_size is None:
            return np.maximum(1, np.floor(info.class_size * profile)).astype(np.int64)
        return apportion(self.train_size, profile)

    def build(self, info: DatasetInfo, data_dir: str | None, download: bool) -> Dataset:
        """Reads the data set and draws this variant of it (on the CPU)."""
        raw = read_raw(info, data_dir, download)
        given = raw.train.labels.numpy()
        # All of the first class where there are none: their val split is a uniform draw.
        labels = given if info.labels == CLASSES else np.zeros(len(given), dtype=np.int64)
        classes = np.bincount(labels, minlength=info.num_classes)
        rng = np.random.default_rng([self.data_seed, 0])
        val = stratified(labels, apportion(info.num_val, classes), rng, raw.groups)

        rest = np.setdiff1d(np.arange(len(labels)), val)
        n = self.num_samples(info)
        left = np.bincount(labels[rest], minlength=info.num_classes)
        counts = self._class_counts(info) if self.imbalance < 1 else apportion(n, left)
        ids = rest[stratified(labels[rest], counts, rng)]

        # One generator per corruption: switching one on leaves the draws of the others alone.
        # As one group where classes are even: copies fall where they may.
        groups = labels[ids] if self.imbalance < 1 else np.zeros(n, dtype=np.int64)
        duplicate_of = self._draw_duplicates(groups, np.random.default_rng([self.data_seed, 1]))
        copies = duplicate_of >= 0
        ids[copies] = ids[duplicate_of[copies]]

        rng = np.random.default_rng([self.data_seed, 2])
        redrawn = np.zeros(n, dtype=bool)
        redrawn[rng.permutation(n)[: round(self.label_noise * n)]] = True
        noisy = given[ids]
        if info.labels == CLASSES:
            noisy = np.where(redrawn, rng.integers(info.num_classes, size=n), noisy)
        return Dataset(
            info=info,
            train=Split(raw.train.inputs[torch.from_numpy(ids)], torch.from_numpy(noisy)),
            val=raw.train.take(val),
            test=raw.test,
            clean_labels=given[ids],
            redrawn=redrawn,
            duplicate_of=duplicate_of,
        )

    def _draw_duplicates(self, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Which sample each of n repeats, -1 for originals; originals repeat equally often.

        Args:
            groups: (n,) int64; a sample repeats one of its own.
            rng: draws them.
        """
        order = rng.permutation(len(groups))
        sizes = np.bincount(groups)
        wanted = apportion(round(self.duplicates * len(groups)), sizes)
        duplicate_of = np.full(len(groups), -1, dtype=np.int64)
        for group, count in enumerate(np.minimum(wanted, sizes - 1)):
            own = order[groups[order] == group]
            if count > 0:
                duplicate_of[own[:count]] = np.resize(own[count:], count)
        return duplicate_of


def load_dataset(
    info: DatasetInfo, variant: Variant, data_dir: str | None, download: bool, device: torch.device
) -> Dataset:
    """Builds a variant and moves it to a device, once per process.

    Raises:
        DataNotFoundError: the data set's files are absent.
    """
    with as_alone():
        return _load(info, variant, str(data_folder(data_dir)), download, device)


@lru_cache(maxsize=4)
def _load(
    info: DatasetInfo, variant: Variant, data_dir: str, download: bool, device: torch.device
) -> Dataset:
    dataset = variant.build(info, data_dir, download)
    return Dataset(
        info=info,
        train=dataset.train.to(device),
        val=dataset.val.to(device),
        test=dataset.test.to(device),
        clean_labels=dataset.clean_labels,
        redrawn=dataset.redrawn,
        duplicate_of=dataset.duplicate_of,
    )
