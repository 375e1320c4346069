"""Losses by name, and what labels they take: classes, several labels a sample, or numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dynprune_env.common.specs import own_function

CLASSES, SEVERAL, NUMBERS = "classes", "several labels", "numbers"
"""Kinds of labels: (n,) integers, one class a sample; (n, k) float32, each 0 or 1; (n,) or (n, k)
float32, numbers to predict."""

LABELS = {"cross_entropy": CLASSES, "bce": SEVERAL, "mse": NUMBERS}
"""The kind of labels that each loss takes; one's own takes any."""


def own_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function behind "my_module:function", as it is.

    A pure function that gives the loss of each sample, (B,), at least 0 and differentiable, from
    outputs (B, k) float32 and labels: (B,) int64 of classes, (B, k) float32 of the other kinds.
    Of what kind they are says the task's data, see `kind_of`.

    Raises:
        ValueError: it cannot be loaded.
    """
    return own_function("loss", name, "outputs and labels")


def kind_of(labels: Tensor) -> str:
    """The kind of labels under a loss of one's own.

    (n,) whole numbers or bools are classes, (n, k) zeros and ones several labels, all else numbers.
    """
    if labels.dim() == 1 and not labels.is_floating_point() and not labels.is_complex():
        return CLASSES
    return SEVERAL if are_several(labels) else NUMBERS


def are_several(labels: Tensor) -> bool:
    """Whether these are (n, k) zeros and ones."""
    return labels.dim() == 2 and bool(((labels == 0) | (labels == 1)).all())


def as_targets(labels: Any, loss: str, kind: str) -> Tensor:
    """Labels of a kind that is not classes, as float32 of the shape that they have.

    Args:
        labels: a table of numbers.
        loss: the name of the loss, for the message.
        kind: `SEVERAL` or `NUMBERS`.

    Raises:
        ValueError: they are not of the kind; the message says what is expected.
    """
    table: Tensor = labels
    given = f"got {tuple(table.shape)} {table.dtype}"
    if kind == SEVERAL:
        if table.dim() == 1:
            raise ValueError(
                f"labels of loss={loss!r} are (n, k), each 0 or 1, {given}: labels"
                "[:, None] are those of one output"
            )
        if not are_several(table):
            raise ValueError(f"labels of loss={loss!r} are (n, k), each 0 or 1, {given}")
    elif table.dim() not in (1, 2) or table.is_complex():
        raise ValueError(f"labels of loss={loss!r} are (n,) or (n, k) real numbers, {given}")
    if table.dim() == 2 and not table.shape[1]:
        raise ValueError(f"labels of loss={loss!r} have at least one column, {given}")
    targets = table.to(torch.float32, copy=True)
    if not targets.isfinite().all():
        raise ValueError(f"labels of loss={loss!r} are finite as float32, got some that are not")
    return targets
