"""What training minimises, and what a prediction says of a sample under that loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dynprune_env.common.checks import shown
from dynprune_env.selection.statistics import MAX_LOSS, SampleValues, from_losses, value_table
from dynprune_env.tasks.losses import CLASSES, NUMBERS, own_loss
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset

_NEVER = 1e-30  # a variance below all others, where a split's labels are all the same


@dataclass(frozen=True)
class Objective:
    """The loss of a recipe on the labels of a data set, and the columns that follow from it.

    | labels | loss | correct | accuracy |
    |---|---|---|---|
    | classes | cross-entropy | the prediction is the label | share of correct |
    | several labels | mean binary cross-entropy of the k | all k are, at 0.5 | share of correct |
    | numbers | mean squared error of the k | a squared error below ln 2 | R² in [0, 1] |

    | labels | confidence p | margin | el2n |
    |---|---|---|---|
    | classes | of the label | its logit minus the largest other | of softmax and one-hot |
    | several labels | exp(-loss) | logit of the worst, > 0 if right | √2 RMS of p - label |
    | numbers | exp(-loss) | ln(p / (1 - p)) | √2 (1 - p) |

    One of several labels alone has the columns of two classes; of numbers they are what
    `from_losses` reads from any loss, so correct is p > 0.5. Under a loss of one's own the loss
    column is what that gives, the others as above; those of numbers follow from it. R² is of the
    squared error, against the variance of the split's labels, all k together; below 0 it is 0.

    Attributes:
        loss: its name, see `Recipe`.
        labels: their kind, of `tasks.losses`.
        smoothing: label smoothing, seen by `trained` alone.
        start: the values of an uninformed prediction by column: uniform, or the mean of the train
            labels.
        variances: of each split's labels, where they are numbers; the mean of the k.
    """

    loss: str
    labels: str
    smoothing: float
    start: dict[str, float] | None
    variances: dict[str, float]

    def trained(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample that training minimises, (B,); see `losses`."""
        return self.losses(outputs, labels, self.smoothing)

    def losses(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss of each sample, (B,).

        Args:
            outputs: (B, k) float32, or (B,) of one number.
            labels: (B,) int64, or float32 (B, k) or (B,).
            smoothing: of labels, for cross-entropy.

        Raises:
            ValueError: a loss of one's own gives something else.
        """
        if self.loss == "cross_entropy":
            return F.cross_entropy(outputs, labels, reduction="none", label_smoothing=smoothing)
        if self.labels != CLASSES:
            outputs, labels = _columns(outputs), _columns(labels)
        if self.loss == "bce":
            return F.binary_cross_entropy_with_logits(outputs, labels, reduction="none").mean(1)
        if self.loss == "mse":
            return (outputs - labels).square().mean(1)
        found: Any = own_loss(self.loss)(outputs, labels)
        if not isinstance(found, Tensor) or found.shape != (len(outputs),):
            what = tuple(found.shape) if isinstance(found, Tensor) else shown(found)
            raise ValueError(
                f"the loss {self.loss!r} gives a tensor ({len(outputs)},), one loss for each "
                f"sample, got {what}"
            )
        return found

    def table(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What a prediction reveals of each sample, (5, V) float32; see `value_table`."""
        if self.loss == "cross_entropy":
            return value_table(outputs, labels)
        with torch.no_grad():
            losses = self.losses(outputs, labels).float()
            if self.labels == NUMBERS:
                return from_losses(losses, 2)
            if self.labels == CLASSES:
                found = value_table(outputs, labels).clone()
            else:
                found = _several(_columns(outputs), _columns(labels))
            found[0] = losses
            return found

    def values(self, outputs: Tensor, labels: Tensor) -> SampleValues:
        """The same on the host."""
        return SampleValues(*self.table(outputs, labels).cpu().numpy())

    def evaluated(self, split: str, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sample, and that whose mean is the accuracy, (2, V) float32."""
        table = self.table(outputs, labels)
        if self.labels != NUMBERS:
            return table[::4]  # the first field and the last
        errors = (_columns(outputs) - _columns(labels)).square().mean(1)
        return torch.stack([table[0], 1 - errors / self.variances[split]])

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Predicted probabilities, (..., C); of several labels (..., 2 k), there and not.

        Raises:
            ValueError: the labels are numbers.
        """
        if self.labels == CLASSES:
            return torch.softmax(outputs, -1)
        if self.labels == NUMBERS:
            raise ValueError(
                "a prediction of numbers has no probabilities, as this rule needs them: it is for "
                "tasks of classes or of several labels"
            )
        return torch.cat([torch.sigmoid(outputs), torch.sigmoid(-outputs)], -1)


def objective_of(recipe: Recipe, dataset: Dataset) -> Objective:
    """The objective of a recipe on a data set.

    Raises:
        ValueError: a prediction that knows nothing has a loss that is not in [0, 20): the labels
            are on too large a scale.
    """
    info = dataset.info
    make = partial(Objective, recipe.loss, info.labels, recipe.label_smoothing)
    if recipe.loss == "cross_entropy":
        return make(None, {})
    splits = {name: getattr(dataset, name).labels for name in ("train", "val", "test")}
    variances = {}
    if info.labels == NUMBERS:
        variances = {name: max(_variance(labels), _NEVER) for name, labels in splits.items()}
    known, labels = make(None, variances), splits["train"]
    zeros = torch.zeros(len(labels), info.outputs, dtype=torch.float32, device=labels.device)
    guess = zeros
    if info.labels == NUMBERS:
        guess = zeros + _columns(labels).mean(0)
    for outputs in (zeros, guess):
        table = known.table(outputs, labels).cpu()  # MPS has no float64
        loss = float(table[0].double().mean())
        if not 0 <= loss < MAX_LOSS:
            raise ValueError(
                f"a mean loss is in [0, {MAX_LOSS:g}), that of a prediction of "
                f"{'zeros' if outputs is zeros else 'the mean'} is {loss:.4g} under "
                f"loss={recipe.loss!r}: give (labels - mean) / std where labels are numbers"
            )
    if info.labels == NUMBERS:
        table = from_losses(torch.tensor([loss], device="cpu"), 2)
    names = ("confidence", "margin", "el2n")
    means = table[1:4].double().mean(1).tolist()
    start = {"loss": loss, **dict(zip(names, means, strict=True))}
    return make(start, variances)


def _several(outputs: Tensor, labels: Tensor) -> Tensor:
    """The values of several labels a sample, (5, V) float32, from (V, k) each."""
    losses = F.binary_cross_entropy_with_logits(outputs, labels, reduction="none").mean(1)
    margin = ((2 * labels - 1) * outputs).amin(1)
    el2n = sqrt(2) * (torch.sigmoid(outputs) - labels).square().mean(1).sqrt()
    return torch.stack([losses, torch.exp(-losses), margin, el2n, (margin > 0).float()])


def _columns(table: Tensor) -> Tensor:
    """(B, k) of (B, k) or (B,)."""
    return table.reshape(len(table), -1) if table.dim() != 2 else table


def _variance(labels: Tensor) -> float:
    table = _columns(labels).cpu().double()
    return float((table - table.mean(0)).square().mean())
