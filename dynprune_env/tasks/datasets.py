"""The data sets as published: samples to train on, a test split, facts known beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynprune_env.tasks.losses import CLASSES


@dataclass(frozen=True)
class Split:
    """Samples that are used together.

    Attributes:
        inputs: (n, C, H, W) uint8 pixels, (n, ...) float32 features or int64 token ids.
        labels: (n,) int64 in [0, num_classes), or float32 of the shapes in `losses.as_targets`.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, ids: np.ndarray) -> Split:
        """The samples of these ids, in this order."""
        index = torch.from_numpy(np.asarray(ids, dtype=np.int64))
        return Split(self.inputs[index], self.labels[index])

    def to(self, device: torch.device) -> Split:
        """The same samples on a device."""
        return Split(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class RawData:
    """What was read.

    Attributes:
        train: the samples that may be trained on or held out for val.
        test: the test split.
        groups: (n,) int64, samples of `train` that have to be in train or val together, such as
            the labels of one word; None where each may go its own way.
    """

    train: Split
    test: Split
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """A data set by name, with the facts that must be known before it is read.

    Attributes:
        name: as in the environment's id.
        read: reads the samples; takes the folder (None: the default search) and `download`.
        num_available: samples beside the test split, train and val together.
        num_val: of these, samples held out for val.
        num_classes: C; 2 where labels are no classes: agents see them all in the first.
        input_shape: (C, H, W), (F,) for features, or (L,) for token ids.
        class_size: train samples that every class is sure to have, for `imbalance`.
        mean: per-channel mean of uint8 pixels scaled to [0, 1]; empty for features.
        std: per-channel standard deviation, likewise.
        vocabulary: token ids are in [0, vocabulary); 0 where inputs are no integers, None where
            they are, but it is not known how large.
        labels: their kind, of `losses`.
        num_outputs: k, what a model gives for a sample; None for a logit for each class.
    """

    name: str
    read: Callable[[str | None, bool], RawData]
    num_available: int
    num_val: int
    num_classes: int
    input_shape: tuple[int, ...]
    class_size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    vocabulary: int | None = 0
    labels: str = CLASSES
    num_outputs: int | None = None

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for a sample."""
        return self.num_outputs or self.num_classes

    @property
    def num_train(self) -> int:
        """Samples left to train on."""
        return self.num_available - self.num_val


def apportion(total: int, shares: np.ndarray) -> np.ndarray:
    """Splits `total` into whole numbers proportional to `shares` (largest remainder method)."""
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    return counts


def stratified(
    labels: np.ndarray,
    counts: np.ndarray,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Random ids with `counts[c]` samples of each class c, in random order.

    Args:
        labels: (n,) int64.
        counts: (C,) int64.
        rng: draws them.
        groups: (n,) int64, samples that are chosen all or none; None where each is its own.

    Raises:
        ValueError: a class has too few samples, or whole groups do not add up to these counts.
    """
    if groups is not None:
        return rng.permutation(_whole_groups(labels, counts, rng, groups))
    chosen = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        if count > len(members):
            raise ValueError(
                f"{count} samples of class {label} are needed, but there are {len(members)}"
            )
        chosen.append(rng.permutation(members)[:count])
    return rng.permutation(np.concatenate(chosen))


def _whole_groups(
    labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator, groups: np.ndarray
) -> np.ndarray:
    """Ids as `stratified` gives them: group after group in random order, each that still fits."""
    left, chosen = counts.copy(), [np.empty(0, dtype=np.int64)]
    names, sizes = np.unique(groups, return_counts=True)
    members = np.split(np.argsort(groups, kind="stable"), sizes.cumsum()[:-1])
    for group in rng.permutation(len(names)):
        if not left.any():
            break
        needed = np.bincount(labels[members[group]], minlength=len(counts))
        if (needed <= left).all():
            left -= needed
            chosen.append(members[group])
    if left.any():
        label = int(left.argmax())
        raise ValueError(
            f"{counts[label]} samples of class {label} are needed, but whole groups give "
            f"{counts[label] - left[label]}"
        )
    return np.concatenate(chosen)


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """What scikit-learn's function of this name returns: (1797, 64) float64 and (1797,) int64.

    Its file is read directly where it is found, since loading all of scikit-learn takes seconds.
    """
    found = find_spec("sklearn")
    path = Path((found and found.origin) or "").parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        from sklearn import datasets

        features, labels = datasets.load_digits(return_X_y=True)
        return features, labels
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)


def _read_digits(data_dir: str | None, download: bool) -> RawData:
    """The 8x8 digits that scikit-learn ships (UCI optdigits), scaled to [0, 1]; 497 for test."""
    features, labels = load_digits()
    everything = Split(torch.from_numpy((features / 16).astype(np.float32)), torch.tensor(labels))
    rng = np.random.default_rng(0)  # the test split never changes
    test = stratified(labels, apportion(497, np.bincount(labels)), rng)
    return RawData(
        everything.take(np.setdiff1d(np.arange(len(labels)), test)), everything.take(test)
    )


def _read_digit_images(data_dir: str | None, download: bool) -> RawData:
    """The same digits as images of one channel."""
    digits = _read_digits(data_dir, download)

    def images(split: Split) -> Split:
        pixels = (255 * split.inputs).round().to(torch.uint8).view(-1, 1, 8, 8)
        return Split(pixels, split.labels)

    return RawData(train=images(digits.train), test=images(digits.test))


def _read_pairs(data_dir: str | None, download: bool) -> RawData:
    """Two of those images side by side; the label is the number that they read as, 0 to 99.

    Each image is in several pairs, so train and val share images; those of test are others.
    """
    digits = _read_digit_images(data_dir, download)
    rng = np.random.default_rng(0)

    def pairs(split: Split, per_class: int) -> Split:
        ids = [np.flatnonzero(split.labels == digit) for digit in range(10)]
        images, labels = [], []
        for left, right in product(range(10), repeat=2):
            halves = [
                split.inputs[torch.from_numpy(rng.choice(ids[digit], per_class, replace=False))]
                for digit in (left, right)
            ]
            images.append(torch.cat(halves, dim=3))
            labels += [10 * left + right] * per_class
        return Split(torch.cat(images), torch.tensor(labels))

    return RawData(train=pairs(digits.train, 30), test=pairs(digits.test, 10))


def _read_gaussians(
    data_dir: str | None,
    download: bool,
    noise: float = 1.3,
    unit: float = 1.0,
    classes: int = 10,
    per_class: tuple[int, int] = (130, 100),
) -> RawData:
    """Overlapping Gaussian classes in 32 dimensions.

    Centres have a standard deviation of 1, the points around them of `noise`; features are divided
    by `unit`. `per_class` says how many there are to train on and for test.
    """
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, 32))

    def draw(count: int) -> Split:
        labels = np.repeat(np.arange(classes), count)
        around = rng.normal(scale=noise, size=(len(labels), 32))
        features = ((centres[labels] + around) / unit).astype(np.float32)
        return Split(torch.from_numpy(features), torch.from_numpy(labels))

    return RawData(train=draw(per_class[0]), test=draw(per_class[1]))


def _read_clutter(data_dir: str | None, download: bool) -> RawData:
    """Each of the digits somewhere in a 12x12 image, among five fragments of other digits.

    After the cluttered MNIST of Mnih et al. (2014), arXiv:1406.6247.
    """
    digits = _read_digits(data_dir, download)
    rng = np.random.default_rng(0)
    pieces = digits.train.inputs.numpy().reshape(-1, 8, 8)

    def scatter(split: Split) -> Split:
        canvas = np.zeros((len(split), 12, 12), dtype=np.float32)
        for image, digit in zip(canvas, split.inputs.numpy().reshape(-1, 8, 8), strict=True):
            for piece in pieces[rng.integers(len(pieces), size=5)]:
                top, left = rng.integers(0, 5, size=2)
                y, x = rng.integers(0, 9, size=2)
                image[y : y + 4, x : x + 4] = piece[top : top + 4, left : left + 4]
            y, x = rng.integers(0, 5, size=2)
            image[y : y + 8, x : x + 8] = np.maximum(image[y : y + 8, x : x + 8] * 0.3, digit)
        return Split(
            torch.from_numpy(np.round(255 * canvas).astype(np.uint8))[:, None], split.labels
        )

    return RawData(train=scatter(digits.train), test=scatter(digits.test))


class DataNotFoundError(FileNotFoundError):
    """A data set's files are neither in the searched folder nor could they be downloaded."""


def data_folder(data_dir: str | None) -> Path:
    """The folder that is searched: `data_dir`, else $DYNPRUNE_DATA, else the user's cache."""
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if os.environ.get("DYNPRUNE_DATA"):
        return Path(os.environ["DYNPRUNE_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "dynprune"


def _torchvision_reader(name: str, files: str) -> Callable[[str | None, bool], RawData]:
    """A reader of a torchvision data set; `files` says what its folder must hold."""

    def read(data_dir: str | None, download: bool) -> RawData:
        import torchvision  # slow to import, and needed only here

        folder = data_folder(data_dir)
        dataset = getattr(torchvision.datasets, name)
        try:
            return _pool(dataset(folder, train=True), dataset(folder, train=False))
        except (RuntimeError, ValueError) as missing:  # "not found or corrupted", a broken file
            problem: Exception = missing
        if download:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                dataset(folder, train=True, download=True)
                return _pool(dataset(folder, train=True), dataset(folder, train=False))
            except (OSError, RuntimeError, ValueError) as failed:
                problem = failed
        reason = " ".join(str(problem).split())
        raise DataNotFoundError(
            f"{name} was not found in {folder} and "
            f"{'could not be downloaded' if download else 'download=False'} ({reason}). "
            f"Put {files} there, or name another folder with data_dir or $DYNPRUNE_DATA."
        ) from problem

    return read


def _pool(train: Any, test: Any) -> RawData:
    """Turns two torchvision data sets into tensors, channels first."""

    def split(dataset: Any) -> Split:
        images = torch.as_tensor(dataset.data, device="cpu")
        images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
        return Split(images.contiguous(), torch.as_tensor(dataset.targets, device="cpu"))

    return RawData(split(train), split(test))


DIGITS = DatasetInfo(
    name="Digits",
    read=_read_digits,
    num_available=1300,
    num_val=300,
    num_classes=10,
    input_shape=(64,),
    class_size=96,
)
PLANTED = replace(DIGITS, name="Planted", read=_read_gaussians, input_shape=(32,), class_size=100)
OVERLAP = replace(PLANTED, name="Overlap", read=partial(_read_gaussians, noise=2.6, unit=2.8))
CROWD = replace(
    PLANTED,
    name="Crowd",
    read=partial(_read_gaussians, noise=1.2, unit=1.6, classes=100, per_class=(30, 10)),
    num_available=3000,
    num_val=600,
    num_classes=100,
    class_size=24,
)
SHIFTS = replace(
    DIGITS,
    name="Shifts",
    read=_read_digit_images,
    input_shape=(1, 8, 8),
    mean=(0.305,),
    std=(0.376,),
)
PAIRS = replace(
    CROWD,
    name="Pairs",
    read=_read_pairs,
    input_shape=(1, 8, 16),
    mean=SHIFTS.mean,
    std=SHIFTS.std,
)
CLUTTER = replace(
    DIGITS, name="Clutter", read=_read_clutter, input_shape=(1, 12, 12), mean=(0.223,), std=(0.339,)
)
FASHION_MNIST = DatasetInfo(
    name="FashionMNIST",
    read=_torchvision_reader(
        "FashionMNIST", "FashionMNIST/raw/train-images-idx3-ubyte and its three companions"
    ),
    num_available=60_000,
    num_val=5_000,
    num_classes=10,
    input_shape=(1, 28, 28),
    class_size=5_500,
    mean=(0.2860,),
    std=(0.3530,),
)


def _cifar(
    num_classes: int, folder: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> DatasetInfo:
    return DatasetInfo(
        name=f"CIFAR{num_classes}",
        read=_torchvision_reader(f"CIFAR{num_classes}", f"the folder {folder}"),
        num_available=50_000,
        num_val=5_000,
        num_classes=num_classes,
        input_shape=(3, 32, 32),
        class_size=45_000 // num_classes,
        mean=mean,
        std=std,
    )


CIFAR10 = _cifar(10, "cifar-10-batches-py", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = _cifar(100, "cifar-100-python", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def read_raw(info: DatasetInfo, data_dir: str | None, download: bool) -> RawData:
    """Reads a data set once per process, whatever else of its facts is changed.

    Raises:
        DataNotFoundError: its files are absent; the message says where they were looked for.
    """
    return _read_once(info.read, data_dir, download)


@lru_cache(maxsize=8)
def _read_once(
    read: Callable[[str | None, bool], RawData], data_dir: str | None, download: bool
) -> RawData:
    return read(data_dir, download)
