"""Small nets stacked along the replica axis, trained together with a hand-written gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dynprune_env.common.transfer import put
from dynprune_env.selection.budget import batch_sizes
from dynprune_env.selection.statistics import value_table
from dynprune_env.tasks.models import is_shipped_mlp, linear_parameters
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset
from dynprune_env.training.learner import (
    SCORING_BATCH,
    Pass,
    Passes,
    check_recipe,
    fresh_model,
    scored_split,
)
from dynprune_env.training.loading import input_tables
from dynprune_env.training.module_state import is_changed
from dynprune_env.training.objective import objective_of

STACK = 16
"""Replicas stacked at a time on a CPU: their parameters then stay in the second-level cache."""


def linear_layers(model: nn.Module) -> list[nn.Linear] | None:
    """The layers of a plain ReLU net (Flatten, Linear, ReLU, ..., Linear), None for any other.

    One with a forward pass of its own, hooks, or parameters that are tied, frozen or of another
    type than float32 is not plain.
    """
    if type(model) is not nn.Sequential or any(map(is_changed, model.modules())):
        return None
    modules = list(model)
    if modules and type(modules[0]) is nn.Flatten:
        if (modules[0].start_dim, modules[0].end_dim) != (1, -1):
            return None
        modules = modules[1:]
    linear, between = modules[0::2], modules[1::2]
    plain = (
        len(linear) == len(between) + 1
        and len(list(model.parameters())) == 2 * len(linear)
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
        and all(type(layer) is nn.ReLU for layer in between)
        and all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    )
    return linear if plain else None  # type: ignore[return-value]


def plain_layers(model: nn.Module) -> list[nn.Linear]:
    """Those of `linear_layers`.

    Raises:
        TypeError: it is no plain ReLU net.
    """
    layers = linear_layers(model)
    if layers is None:
        raise TypeError("StackedLearner needs a model of Flatten, Linear and ReLU layers")
    return layers


class StackedLearner:
    """R plain ReLU nets as one stack of matrices, trained together with a hand-written gradient.

    The parameters of replica r are one row of `parameters`, (R, P); a layer's weights are a view
    of it. Same arguments as ModuleLearner; `make_model` must build a net of `linear_layers`, and
    the recipe must be one that `check_recipe` lets through: stochastic gradient descent on
    cross-entropy.
    """

    kind = "stacked"

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        dataset: Dataset,
        recipe: Recipe,
        num_replicas: int,
        device: torch.device,
        *,
        averaging: float | None = None,
    ):
        check_recipe(self.kind, recipe)
        self.make_model = make_model
        self.averaging = averaging
        self.recipe = recipe
        self.inputs = input_tables(dataset, recipe)
        self.objective = objective_of(recipe, dataset)
        self.labels = dataset.train.labels
        self._template = fresh_model(make_model, 0)
        self.sizes = [
            (each.in_features, each.out_features) for each in plain_layers(self._template)
        ]
        length = sum((inputs + 1) * outputs for inputs, outputs in self.sizes)
        shape = num_replicas, length
        self.parameters = torch.zeros(shape, dtype=torch.float32, device=device)
        self.momentum = torch.zeros_like(self.parameters)
        self.averages = torch.zeros_like(self.parameters[: None if averaging is not None else 0])
        self.stack = STACK if device.type == "cpu" else num_replicas

    def _fresh_parameters(self, seed: int) -> list[tuple[Tensor, Tensor]]:
        if is_shipped_mlp(self.make_model):
            return linear_parameters(self.sizes, seed)
        layers = plain_layers(fresh_model(self.make_model, seed))
        return [(layer.weight, layer.bias) for layer in layers]

    @torch.no_grad()
    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Re-initialises these replicas in place."""
        flat = [
            torch.cat([p.reshape(-1) for weight, bias in layers for p in (weight.T, bias)])
            for layers in map(self._fresh_parameters, seeds)
        ]
        there = put([own.numpy() for own in flat], self.parameters.device)
        for row, own in zip(rows, there, strict=True):
            self.parameters[row] = own
            self.momentum[row] = 0
            if self.averaging is not None:
                self.averages[row] = self.parameters[row]

    def _layers(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of (m, P) rows as weights (m, inputs, outputs) and biases (m, 1, outputs)."""
        layers, start = [], 0
        for inputs, outputs in self.sizes:
            middle, end = start + inputs * outputs, start + (inputs + 1) * outputs
            layers.append(
                (flat[:, start:middle].unflatten(1, (inputs, outputs)), flat[:, None, middle:end])
            )
            start = end
        return layers

    @torch.no_grad()
    def train(self, passes: Passes) -> Tensor:
        """Trains one pass per replica; see `Learner.train`."""
        starts = passes.starts
        shape = 5, len(passes.order)
        values = torch.empty(shape, dtype=torch.float32, device=self.parameters.device)
        # Longest pass first, so that those still training are always the first m of a stack.
        longest_first = np.argsort(-np.diff(starts), kind="stable").tolist()
        for start in range(0, len(passes), self.stack):
            rows = longest_first[start : start + self.stack]
            self._train_stack(rows, [passes[row] for row in rows], starts[rows], values)
        return values

    def _train_stack(
        self, rows: list[int], jobs: list[Pass], starts: np.ndarray, values: Tensor
    ) -> None:
        """The hot loop: one pass over the kept samples of a few replicas at a time.

        Args:
            rows: which they are.
            jobs: their passes, the longest first.
            starts: where in `values` each of them begins.
            values: (5, V), takes what each visit revealed.
        """
        size, recipe, table = self.recipe.batch_size, self.recipe, self.inputs["train"]
        sizes = [batch_sizes(len(job.order), size) for job in jobs]
        stack = _taken_over(rows, jobs, sizes, starts, self.parameters.device)
        order, weights, rates, lengths, noise, chosen, sources, targets = stack
        parameters, momentum = self.parameters[chosen], self.momentum[chosen]
        averages = self.averages[chosen] if self.averaging is not None else None
        classes = self.sizes[-1][1]
        seen = torch.empty(*order.shape, classes, dtype=torch.float32, device=order.device)

        for step in range(len(sizes[0])):
            m = sum(len(each) > step for each in sizes)  # the others have finished: frozen
            begin = step * size
            batch = slice(begin, begin + max(each[step] for each in sizes[:m]))
            ids = order[:m, batch]
            x = table.batch(ids, None if noise is None else noise[:m, batch]).flatten(2)
            layers = self._layers(parameters[:m])
            activations = [x]
            for weight, bias in layers[:-1]:
                activations.append(torch.baddbmm(bias, activations[-1], weight).relu_())
            logits = torch.baddbmm(layers[-1][1], activations[-1], layers[-1][0])
            seen[:m, batch] = logits

            # Gradient of the weighted mean cross-entropy; padding has weight zero.
            smoothing = recipe.label_smoothing
            slope = torch.softmax(logits, 2).sub_(smoothing / classes)
            labels = self.labels[ids][..., None]
            slope.scatter_add_(2, labels, slope.new_full((), smoothing - 1).expand(labels.shape))
            here = lengths[:m, step, None]  # what follows them is padding, or the next batch
            within = torch.arange(ids.shape[1], device=ids.device) < here
            slope *= (weights[:m, batch] * within / here)[..., None]

            update = torch.empty_like(parameters[:m])
            for (weight, _), h, (weight_slope, bias_slope) in zip(
                reversed(layers), reversed(activations), reversed(self._layers(update)), strict=True
            ):
                torch.bmm(h.mT, slope, out=weight_slope)
                torch.sum(slope, 1, keepdim=True, out=bias_slope)
                if weight is not layers[0][0]:
                    slope = torch.bmm(slope, weight.mT).mul_(h > 0)

            # SGD with Nesterov momentum, as torch.optim.SGD does it.
            update.add_(parameters[:m], alpha=recipe.weight_decay)
            momentum[:m].mul_(recipe.momentum).add_(update)
            update.add_(momentum[:m], alpha=recipe.momentum)
            parameters[:m].addcmul_(update, rates[:m, step : step + 1], value=-1)
            if averages is not None and self.averaging is not None:
                averages[:m].lerp_(parameters[:m], 1 - self.averaging)

        self.parameters[chosen], self.momentum[chosen] = parameters, momentum
        if averages is not None:
            self.averages[chosen] = averages
        visited = self.labels[order.flatten()[sources]]
        values[:, targets] = value_table(seen.flatten(0, 1)[sources], visited)

    @torch.no_grad()
    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits; see `Learner.score`."""
        # Not by a list as index, which the device would have to be sent.
        every = list(rows) == list(range(len(self.parameters)))
        chosen = self.parameters if every else torch.stack([self.parameters[row] for row in rows])
        layers = self._layers(chosen)
        logits = []
        for chunk in ids.split(SCORING_BATCH):
            h = self.inputs[split].batch(chunk).flatten(1).expand(len(rows), -1, -1)
            for weight, bias in layers[:-1]:
                h = torch.baddbmm(bias, h, weight).relu_()
            logits.append(torch.baddbmm(layers[-1][1], h, layers[-1][0]))
        return torch.cat(logits, dim=1)

    def evaluate(self, split: str, labels: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Learner.evaluate`."""
        return scored_split(self, split, labels, rows)

    @torch.no_grad()
    def module(self, row: int, averaged: bool = False) -> nn.Module:
        """A module with a copy of one replica's parameters; see `Learner.module`."""
        model = deepcopy(self._template).to(self.parameters.device)
        flat = self.averages if averaged else self.parameters
        layers = self._layers(flat[row : row + 1])
        for layer, (weight, bias) in zip(plain_layers(model), layers, strict=True):
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0, 0])
        return model

    def state(self) -> dict[str, Any]:
        """Parameters, momenta and averages, (R, P) each; no averages where none are kept."""
        return {name: getattr(self, name).to("cpu", copy=True) for name in self._STATE}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
        for name in self._STATE:
            getattr(self, name).copy_(state[name])

    _STATE = ("parameters", "momentum", "averages")


class _Stack(NamedTuple):
    """Passes of m replicas on the device, K being the visits of the longest, B its batches.

    Attributes:
        order, weights: (m, K), zeros behind the shorter ones.
        rates, lengths: (m, B) of each batch, float32 and int64, likewise.
        noise: (m, K, 3) int64 or None.
        chosen: (m,) int64, which replicas.
        sources, targets: (v,) int64, where in (m K,) each visit lies, and its place among all.
    """

    order: Tensor
    weights: Tensor
    rates: Tensor
    lengths: Tensor
    noise: Tensor | None
    chosen: Tensor
    sources: Tensor
    targets: Tensor


def _taken_over(
    rows: list[int],
    jobs: list[Pass],
    sizes: list[list[int]],
    starts: np.ndarray,
    device: torch.device,
) -> _Stack:
    """Takes passes over to the device, in one copy; see `StackedLearner._train_stack`."""
    orders = [job.order.numpy() for job in jobs]
    places = np.arange(len(orders[0]))
    visited = places < np.array([[len(order)] for order in orders])
    noises = [job.noise.numpy() for job in jobs if job.noise is not None]
    arrays = [
        _padded(orders),
        _padded([job.weights.numpy() for job in jobs]),
        _padded([job.rates.astype(np.float32) for job in jobs]),
        _padded([np.array(each, dtype=np.int64) for each in sizes]),
        np.array(rows, dtype=np.int64),
        np.flatnonzero(visited),
        (starts[:, None] + places)[visited],
    ]
    there = put([*arrays, *([_padded(noises)] if noises else [])], device)
    order, weights, rates, lengths, chosen, sources, targets, *noise = there
    own = noise[0] if noise else None
    return _Stack(order, weights, rates, lengths, own, chosen, sources, targets)


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Stacks rows of unequal length, the first the longest, zeros behind the shorter ones."""
    stack = np.zeros((len(rows), *rows[0].shape), dtype=rows[0].dtype)
    for place, row in zip(stack, rows, strict=True):
        place[: len(row)] = row
    return stack
