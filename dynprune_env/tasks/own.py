"""A task from one's own data and model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dynprune_env.common.checks import flag, real, shown, whole
from dynprune_env.common.threads import torch_threads
from dynprune_env.tasks.datasets import DatasetInfo, RawData, Split, apportion
from dynprune_env.tasks.inputs import (
    Streamed,
    as_input,
    check_map_style,
    is_pair,
    read_labels,
    read_samples,
    read_split,
)
from dynprune_env.tasks.losses import CLASSES, LABELS, kind_of
from dynprune_env.tasks.models import check_model
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.registry import UNCHANGED, Task, check_parts
from dynprune_env.tasks.variants import Variant


def own_task(
    train: Any,
    test: Any,
    model: str | Callable[[], nn.Module],
    recipe: Recipe,
    *,
    val_size: int | None = None,
    num_classes: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    variant: Variant = UNCHANGED,
    stream: bool = False,
    workers: int = 0,
) -> Task:
    """A task from one's own data; call it in the function that `register_task` takes.

    Args:
        train: (inputs, labels) as tensors or arrays, or a map-style data set of (input, label).
            Inputs are (n, C, H, W) uint8 pixels, which are normalised; floats (n, ...) or integers
            (n, ...), such as token ids, which reach the model as they are. Labels are (n,)
            integers in [0, C); under loss="bce" of the recipe (n, k) zeros and ones, under "mse"
            (n,) or (n, k) numbers of about unit variance; under a loss of one's own what
            `losses.kind_of` makes of them.
        test: likewise; only `evaluate("test")` reads it.
        model: a function that makes a fresh module, logits (B, C) from a batch of inputs, or
            outputs (B, k) where labels are no classes ((B,) will do for one number), drawing its
            weights from torch's default generator; or a spec such as "mlp(width=32)".
        recipe: how to train. Its augmentation crops and flips pixels.
        val_size: samples held out of `train`, stratified by class where there are classes; None
            holds out a tenth.
        num_classes: C, at least 2; None means one more than the largest label. Of classes alone.
        mean: of pixels scaled to [0, 1], one number per channel; None takes that of train (of at
            most 1,000 samples).
        std: likewise, positive.
        variant: label noise, imbalance, ... that belong to the task.
        stream: reads map-style data sets when they are needed, with `workers` processes, instead
            of keeping all inputs on the device. Transforms are then drawn afresh at every visit,
            otherwise once. Val samples are read through train's transforms, always the same draw.
            Labels are read once: from `targets`, or in a pass over the data.
        workers: see `stream`; each split that is read has as many.

    Raises:
        ValueError: an argument is not as described, shapes or types do not fit, a label is out of
            range, or the data are too few.
    """
    if num_classes is not None:
        num_classes = whole("num_classes", num_classes, 2)
    if val_size is not None:
        val_size = whole("val_size", val_size, 1)
    check_parts(recipe, variant)
    loss = recipe.loss
    splits = _read(train, test, loss, flag("stream", stream), whole("workers", workers, 0))
    labels, outputs = _kind_of_labels(splits, loss), None
    if labels == CLASSES:
        classes = _check_labels(splits, num_classes)
        strata = splits["train"].labels.numpy()
    else:
        if num_classes is not None:
            raise ValueError(f"num_classes is of classes, got {num_classes} for {labels}")
        classes, outputs = 2, splits["train"].labels[0].numel()
        strata = np.zeros(len(splits["train"]), dtype=np.int64)
    shape, dtype = _kind(splits["train"])
    vocabulary = None if dtype == torch.int64 else 0
    check_model(model, shape, vocabulary)
    pixels = dtype == torch.uint8
    if not pixels and (recipe.augmentation or mean is not None or std is not None):
        raise ValueError(
            "mean, std and augmentation are for (n, C, H, W) uint8 images, inputs are "
            f"{('n', *shape)} {dtype}".replace("'", "")
        )
    mean = None if mean is None else _per_channel("mean", mean, shape[0], "[0, 1]")
    std = None if std is None else _per_channel("std", std, shape[0], "(0, inf)")
    if pixels and (mean is None or std is None):
        found = _moments(splits["train"])
        mean, std = mean or found[0], std or found[1]
    n = len(splits["train"])
    val_size = max(1, n // 10) if val_size is None else val_size
    if not 1 <= val_size < n:
        raise ValueError(
            f"{n} train samples cannot be split into train and val with val_size={val_size}: "
            "each needs at least one"
        )
    counts = np.bincount(strata, minlength=classes)
    raw = RawData(splits["train"], splits["test"])
    info = DatasetInfo(
        name="own task",
        read=lambda data_dir, download: raw,
        num_available=n,
        num_val=val_size,
        num_classes=classes,
        input_shape=shape,
        class_size=int((counts - apportion(val_size, counts)).min()),
        mean=tuple(mean or ()),
        std=tuple(std or ()),
        vocabulary=vocabulary,
        labels=labels,
        num_outputs=outputs,
    )
    return Task(info, model, recipe, variant)


def _per_channel(name: str, values: Any, channels: int, interval: str) -> tuple[float, ...]:
    """One number for each channel of pixels scaled to [0, 1]."""
    given = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(given, tuple | list) or len(given) != channels:
        raise ValueError(f"{name} is one number per channel, {channels} in all, got {shown(given)}")
    what = f"{name} is of pixels scaled to [0, 1], each"
    return tuple(real(what, value, interval) for value in given)


def _read(train: Any, test: Any, loss: str, stream: bool, workers: int) -> dict[str, Split]:
    """Both splits, whose inputs are alike."""
    splits, kinds = {}, []
    for name, data in (("train", train), ("test", test)):
        try:
            splits[name] = _streamed(data, loss, workers) if stream else read_split(data, loss)
            kinds.append(_kind(splits[name]))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if is_pair(data):  # copies: the arrays may be used for something else afterwards
            splits[name] = Split(splits[name].inputs.clone(), splits[name].labels.clone())
    if kinds[0] != kinds[1]:
        raise ValueError(
            "the inputs of train and test have one shape and type, got "
            f"{kinds[0][0]} {kinds[0][1]} and {kinds[1][0]} {kinds[1][1]}"
        )
    return splits


def _kind_of_labels(splits: dict[str, Split], loss: str) -> str:
    """What the labels of both splits are, once it is sure that they are alike."""
    train, test = (splits[name].labels for name in ("train", "test"))
    kinds = [LABELS.get(loss) or kind_of(each) for each in (train, test)]
    shapes = [("n", *each.shape[1:]) for each in (train, test)]
    if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
        told = " and ".join(
            f"{kind} {shape}".replace("'", "") for kind, shape in zip(kinds, shapes, strict=True)
        )
        raise ValueError(f"the labels of train and test are of one kind and shape, got {told}")
    return kinds[0]


def _check_labels(splits: dict[str, Split], num_classes: int | None) -> int:
    """The number of classes, at least 2, that all labels lie in."""
    largest = int(max(split.labels.max() for split in splits.values()))
    classes = 1 + largest if num_classes is None else num_classes
    for name, split in splits.items():
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"{name}: labels are in [0, {classes}), got values from {low} to {high}"
            )
    if classes < 2:
        raise ValueError("labels are of at least 2 classes, got one")
    return classes


def _streamed(data: Any, loss: str, workers: int) -> Split:
    if is_pair(data):
        raise ValueError("stream=True reads map-style data sets, these are all in memory already")
    check_map_style(data)
    # A Streamed does what is asked of the tensor: it can be indexed and moved.
    return Split(cast(Tensor, Streamed(data, workers)), read_labels(data, loss))


def _kind(split: Split) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and type of one input."""
    first = _some(split, 1)
    return tuple(first.shape[1:]), first.dtype


def _some(split: Split, count: int) -> Tensor:
    """Inputs of evenly spaced samples."""
    ids = np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.int64)
    if isinstance(split.inputs, Streamed):
        return torch.stack(
            [as_input(x) for x, _ in read_samples(split.inputs.dataset, ids.tolist())]
        )
    return split.inputs[torch.from_numpy(ids)]


def _moments(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1]."""
    pixels = _some(split, 1000).double().transpose(0, 1).flatten(1) / 255
    with torch_threads(1):  # the last bits depend on the number
        return tuple(pixels.mean(1).tolist()), tuple(pixels.std(1).clamp(min=1e-3).tolist())
