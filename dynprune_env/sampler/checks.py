"""What a training loop hands over, checked: whole numbers, shares, indices, losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.checks import plain

INTEGERS = (
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of Python's, from one of any library.

    Raises:
        ValueError: it is none (a bool is none, nor is 2.0), or below the least.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else index(value)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"{name} is a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name} is at least {least}, got {value!r}")
    return number


def share(name: str, value: Any) -> float:
    """A share in (0, 1].

    Raises:
        ValueError: it is none.
    """
    number = as_number(value)
    if not isinstance(number, float) or not 0 < number <= 1:
        raise ValueError(f"{name} is a share of a full run in (0, 1], got {value!r}")
    return number


def as_number(value: Any) -> float | str | None:
    """A number as a float, None as it is, and as text what is no number."""
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes | bool | np.bool_):
            return repr(value)
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return repr(value)


def check_metric(name: str, value: float | str) -> None:
    """Checks a val loss, or an accuracy.

    Raises:
        ValueError: it is no number, not finite, or no share.
    """
    if isinstance(value, str) or not math.isfinite(value):
        raise ValueError(f"val_loss and val_accuracy are finite, got {value} as {name}")
    if name == "val_accuracy" and not 0 <= value <= 1:
        hint = ": divide by 100" if 1 < value <= 100 else ""
        raise ValueError(f"val_accuracy is a share in [0, 1], got {value}{hint}")


def as_tensor(name: str, value: Any) -> Tensor:
    """A tensor of what a loop hands over: a tensor, an array, a list, a number.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, Tensor):
        return value.detach()
    try:
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
            return torch.stack([each.detach() for each in value])
        array = np.asarray(value)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} are a tensor, an array or a list of numbers, got {repr(value)[:60]}"
        ) from error


def as_indices(value: Tensor | np.ndarray | Sequence[int], count: int) -> Tensor:
    """Indices as int64; where they lie on the CPU they are in range, else that is not known yet.

    Args:
        value: integers of any type and shape.
        count: n.

    Raises:
        ValueError: they are no integers, or out of [0, n).
    """
    ids = as_tensor("indices", value)
    if not isinstance(value, Tensor) and not ids.numel():
        ids = ids.to(torch.int64)  # numpy takes an empty list for floats
    if ids.dtype not in INTEGERS:
        raise ValueError(
            f"indices are (B,) integers, got {tuple(ids.shape)} {ids.dtype}: "
            "Indexed(dataset) gives them"
        )
    ids = ids.to(torch.int64)
    if ids.device.type == "cpu":  # elsewhere this would wait for the device
        check_range(ids.numpy(), count)
    return ids


def check_range(ids: np.ndarray, count: int) -> None:
    """Checks that indices are in [0, n).

    Raises:
        ValueError: one is not.
    """
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        worst = ids.max() if ids.min() >= 0 else ids.min()
        raise ValueError(f"indices are in [0, {count}), got {worst}")


def checked_labels(
    labels: Sequence[int] | np.ndarray | Tensor | int, num_classes: int | None
) -> tuple[np.ndarray, int, bool]:
    """The labels as a table, the number of classes, and whether there are labels.

    Args:
        labels: (n,) integers in [0, C), or n itself where there are none.
        num_classes: C; None means one more than the largest label, 2 without labels.

    Returns:
        (n,) int64, a copy, zeros where there are no labels; C, at least 2; False for n alone.

    Raises:
        ValueError: they are not as described.
    """
    classes = None if num_classes is None else whole("num_classes", num_classes, 1)
    labels = plain(labels)
    if isinstance(labels, bool | int):
        count = whole("the number of samples", labels, 1)
        return np.zeros(count, dtype=np.int64), max(2, classes or 2), False
    try:
        given = as_tensor("labels", labels).cpu()
    except ValueError as error:
        raise ValueError(f"{error}{_way_out_of_words(labels)}") from error
    if given.dim() != 1 or not len(given) or given.dtype not in INTEGERS:
        raise ValueError(
            "labels are (n,) integers, or n alone, at least 1, got "
            f"{tuple(given.shape)} {str(given.dtype).removeprefix('torch.')}{_way_out(given)}"
        )
    table = given.to(torch.int64).numpy().copy()
    classes = max(0, int(table.max())) + 1 if classes is None else classes
    if table.min() < 0 or table.max() >= classes:
        ignored = (
            ": -100 marks what a loss ignores, so leave these samples out (torch.utils.data.Subset)"
            if table.min() == -100
            else ""
        )
        raise ValueError(
            f"labels are in [0, {classes}), got values from {table.min()} to {table.max()}{ignored}"
        )
    return table, max(2, classes), True


def _way_out(labels: Tensor) -> str:
    """What to do with labels of another kind, for the end of a message."""
    if labels.dim() == 2 and labels.shape[1] > 1:
        return ": give labels.argmax(1) if they are one-hot; n alone, with losses, if several apply"
    if labels.dim() == 2:
        return ": give labels[:, 0]"
    if labels.dtype == torch.bool:
        return ": give labels.astype(int) (of a tensor, labels.long())"
    if labels.dim() == 1 and labels.dtype.is_floating_point:
        return (
            ": of classes give labels.astype(int) (of a tensor, labels.long()); of a regression n"
        )
    return ""


def _way_out_of_words(labels: Any) -> str:
    try:
        words = np.asarray(labels).dtype.kind in "USO" and len(labels) > 0
        words = words and all(isinstance(each, str | bytes) for each in labels)
    except (TypeError, ValueError):
        words = False
    return ": np.unique(labels, return_inverse=True)[1] numbers them" if words else ""


def checked_base(values: Any, count: int) -> np.ndarray | None:
    """Factors of gradient weights, (n,) float32, a copy; None as it is.

    Raises:
        ValueError: they are not n positive numbers.
    """
    if values is None:
        return None
    given = as_tensor("base_weights", values).cpu()
    if given.dtype == torch.bool or given.is_complex():
        raise ValueError(f"base_weights are real numbers, got {given.dtype}")
    table = given.to(torch.float32).numpy().copy()
    if table.shape != (count,):
        raise ValueError(
            f"base_weights have one value per sample, ({count},), got {table.shape}: of weights of "
            "classes give class_weights[labels]"
        )
    if not (np.isfinite(table) & (table > 0)).all():
        raise ValueError(
            f"base_weights are positive and finite, got values from {table.min()} to {table.max()}"
        )
    return table
