"""The training back ends: one module per replica, or small nets stacked along the replica axis."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynprune_env.augment import ImageTable
from dynprune_env.tasks import Recipe
from dynprune_env.variants import Dataset

STACK = 16
"""Replicas stacked at a time on a CPU: their parameters then stay in the second-level cache."""

SCORING_BATCH = 1024
"""Samples per forward pass where no gradient is needed."""


@dataclass(frozen=True)
class Pass:
    """What one replica trains in one epoch.

    Attributes:
        order: (k,) int64 on the device, the kept samples in the order of training.
        weights: (k,) float32 on the device, gradient weights.
        rates: (b,) float64 on the host, the learning rate of each of the b batches.
        noise: (k, 3) int64 on the device, augmentation noise; None for none.
        seed: of whatever the model itself draws (dropout).
    """

    order: Tensor
    weights: Tensor
    rates: np.ndarray
    noise: Tensor | None
    seed: int


class Learner(Protocol):
    """R models in training on one data set."""

    images: dict[str, ImageTable]

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Gives these replicas fresh models; row r's depends on its seed alone."""

    def train(self, passes: Sequence[Pass]) -> Tensor:
        """Trains one pass per replica.

        Returns:
            (V, C) float32: the logits of every visit, replica after replica, each in its order.
        """

    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits in evaluation mode under m replicas, (m, len(ids), C) float32."""

    def module(self, row: int) -> nn.Module:
        """A copy of one replica's model."""

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""


def _image_tables(dataset: Dataset, recipe: Recipe) -> dict[str, ImageTable]:
    """The splits' images; only train images are ever augmented."""
    return {
        "train": ImageTable(dataset.train.images, dataset.source, recipe.augmentation.crop),
        "val": ImageTable(dataset.val.images, dataset.source),
        "test": ImageTable(dataset.test.images, dataset.source),
    }


class ModuleLearner:
    """R ordinary modules, visited in turn: works for any `nn.Module`.

    Args:
        make_model: builds a fresh module from torch's global generator, which is seeded for it.
        dataset: on the device.
        recipe: how to train.
        num_replicas: R.
        device: where.
        bf16: whether forward and backward run under bf16 autocast.
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        dataset: Dataset,
        recipe: Recipe,
        num_replicas: int,
        device: torch.device,
        bf16: bool,
    ):
        self.make_model = make_model
        self.recipe = recipe
        self.device = device
        self.bf16 = bf16
        self.images = _image_tables(dataset, recipe)
        self.labels = dataset.train.labels
        # Convolutions run faster on channels last, on CPUs and on tensor cores.
        self.layout = (
            torch.channels_last if len(dataset.source.image_shape) == 3 else torch.contiguous_format
        )
        self.models: list[nn.Module] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        for row in range(num_replicas):
            self.models.append(
                _fresh_model(make_model, row).to(device).to(memory_format=self.layout)
            )
            self.optimizers.append(
                torch.optim.SGD(
                    self.models[row].parameters(),
                    lr=recipe.learning_rate,
                    momentum=recipe.momentum,
                    nesterov=recipe.momentum > 0,
                    weight_decay=recipe.weight_decay,
                    fused=True,
                )
            )

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Re-initialises these replicas in place."""
        for row, seed in zip(rows, seeds, strict=True):
            self.models[row].load_state_dict(_fresh_model(self.make_model, seed).state_dict())
            self.optimizers[row].state.clear()

    def _forward(self, model: nn.Module, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return model(images).float()

    def train(self, passes: Sequence[Pass]) -> Tensor:
        """Trains one pass per replica; see `Learner.train`."""
        logits = [torch.empty(0, 0, device=self.device)]
        for model, optimizer, job in zip(self.models, self.optimizers, passes, strict=True):
            if len(job.order):
                with _seeded(job.seed, self.device):  # for what the model draws, as dropout does
                    logits.extend(self._train_one(model, optimizer, job))
        return torch.cat(logits[1:] or logits)

    def _train_one(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, job: Pass
    ) -> list[Tensor]:
        """The hot loop: one pass over one replica's kept samples."""
        model.train()
        images, smoothing, size = self.images["train"], self.recipe.label_smoothing, len(job.order)
        seen: list[Tensor] = []
        for rate, start in zip(
            job.rates.tolist(), range(0, size, self.recipe.batch_size), strict=True
        ):
            batch = slice(start, start + self.recipe.batch_size)
            ids = job.order[batch]
            x = images.batch(ids, None if job.noise is None else job.noise[batch])
            logits = self._forward(model, x)
            losses = F.cross_entropy(
                logits, self.labels[ids], reduction="none", label_smoothing=smoothing
            )
            (losses * job.weights[batch]).mean().backward()
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            seen.append(logits.detach())
        return seen

    @torch.no_grad()
    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits in evaluation mode; see `Learner.score`."""
        models = [self.models[row].eval() for row in rows]
        logits = []
        for chunk in ids.split(SCORING_BATCH):
            x = self.images[split].batch(chunk)
            logits.append(torch.stack([self._forward(model, x) for model in models]))
        return torch.cat(logits, dim=1)

    def module(self, row: int) -> nn.Module:
        """A copy of one replica's model."""
        return copy.deepcopy(self.models[row])

    def state(self) -> dict[str, Any]:
        """Parameters, buffers and momenta of every replica."""
        return {
            "models": [
                {name: _copy(tensor) for name, tensor in model.state_dict().items()}
                for model in self.models
            ],
            "momenta": [
                [
                    _copy(optimizer.state[p].get("momentum_buffer"))
                    for p in optimizer.param_groups[0]["params"]
                ]
                for optimizer in self.optimizers
            ],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
        for model, saved in zip(self.models, state["models"], strict=True):
            model.load_state_dict(saved)
        for optimizer, saved in zip(self.optimizers, state["momenta"], strict=True):
            optimizer.state.clear()
            for parameter, momentum in zip(optimizer.param_groups[0]["params"], saved, strict=True):
                if momentum is not None:  # None where no gradient has ever come
                    buffer = torch.empty_like(parameter).copy_(momentum)
                    optimizer.state[parameter]["momentum_buffer"] = buffer


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _fresh_model(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model drawn from torch's default generator, which is left as it was."""
    with _seeded(seed, torch.device("cpu")):
        return make_model()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's default generators (the CPU's, and one GPU's); puts them back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def linear_layers(model: nn.Module) -> list[nn.Linear] | None:
    """The layers of a plain ReLU net (Flatten, Linear, ReLU, ..., Linear), None for any other."""
    modules = list(model) if isinstance(model, nn.Sequential) else []
    if modules and isinstance(modules[0], nn.Flatten):
        modules = modules[1:]
    linear, between = modules[0::2], modules[1::2]
    plain = (
        len(linear) == len(between) + 1
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
        and all(type(layer) is nn.ReLU for layer in between)
    )
    return linear if plain else None  # type: ignore[return-value]


class StackedLearner:
    """R plain ReLU nets as one stack of matrices, trained together with a hand-written gradient.

    The parameters of replica r are one row of `parameters`, (R, P); a layer's weights are a view
    of it. Same arguments as ModuleLearner; `make_model` must build a net of `linear_layers`.
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        dataset: Dataset,
        recipe: Recipe,
        num_replicas: int,
        device: torch.device,
    ):
        self.make_model = make_model
        self.recipe = recipe
        self.images = _image_tables(dataset, recipe)
        self.labels = dataset.train.labels
        self.sizes = [(layer.in_features, layer.out_features) for layer in self._fresh_layers(0)]
        length = sum((inputs + 1) * outputs for inputs, outputs in self.sizes)
        self.parameters = torch.zeros(num_replicas, length, device=device)
        self.momentum = torch.zeros_like(self.parameters)
        self.stack = STACK if device.type == "cpu" else num_replicas

    def _fresh_layers(self, seed: int) -> list[nn.Linear]:
        layers = linear_layers(_fresh_model(self.make_model, seed))
        if layers is None:
            raise TypeError("StackedLearner needs a model of Flatten, Linear and ReLU layers")
        return layers

    @torch.no_grad()
    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Re-initialises these replicas in place."""
        for row, seed in zip(rows, seeds, strict=True):
            parts = [
                part for layer in self._fresh_layers(seed) for part in (layer.weight.T, layer.bias)
            ]
            self.parameters[row] = torch.cat([part.reshape(-1) for part in parts])
            self.momentum[row] = 0

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
    def train(self, passes: Sequence[Pass]) -> Tensor:
        """Trains one pass per replica; see `Learner.train`."""
        seen: list[Tensor | None] = [None] * len(passes)
        # Longest pass first, so that those still training are always the first m of a stack.
        longest_first = sorted(range(len(passes)), key=lambda row: -len(passes[row].order))
        for start in range(0, len(passes), self.stack):
            rows = longest_first[start : start + self.stack]
            for row, logits in zip(rows, self._train_stack(rows, passes), strict=True):
                seen[row] = logits
        return torch.cat([logits for logits in seen if logits is not None])

    def _train_stack(self, rows: list[int], passes: Sequence[Pass]) -> list[Tensor]:
        """The hot loop: one pass over the kept samples of a few replicas at a time."""
        jobs = [passes[row] for row in rows]
        counts = [len(job.order) for job in jobs]
        size, recipe, images = self.recipe.batch_size, self.recipe, self.images["train"]
        order = _padded([job.order for job in jobs])
        weights = _padded([job.weights for job in jobs])
        noise = None
        if jobs[0].noise is not None:
            noise = _padded([job.noise for job in jobs if job.noise is not None])
        rates = _padded([torch.from_numpy(job.rates).float() for job in jobs]).to(order.device)
        remaining = torch.tensor(counts, device=order.device)
        parameters, momentum = self.parameters[rows], self.momentum[rows]
        classes = self.sizes[-1][1]
        seen = torch.empty(*order.shape, classes, device=order.device)

        for step, begin in enumerate(range(0, counts[0], size)):
            m = sum(count > begin for count in counts)  # the others have finished: frozen
            batch = slice(begin, min(begin + size, counts[0]))
            ids = order[:m, batch]
            x = images.batch(ids, None if noise is None else noise[:m, batch]).flatten(2)
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
            here = (remaining[:m] - begin).clamp_max(size)
            slope *= (weights[:m, batch] / here[:, None])[..., None]

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

        self.parameters[rows], self.momentum[rows] = parameters, momentum
        return [logits[:count] for logits, count in zip(seen, counts, strict=True)]

    @torch.no_grad()
    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits; see `Learner.score`."""
        layers = self._layers(self.parameters[list(rows)])
        logits = []
        for chunk in ids.split(SCORING_BATCH):
            h = self.images[split].batch(chunk).flatten(1).expand(len(rows), -1, -1)
            for weight, bias in layers[:-1]:
                h = torch.baddbmm(bias, h, weight).relu_()
            logits.append(torch.baddbmm(layers[-1][1], h, layers[-1][0]))
        return torch.cat(logits, dim=1)

    @torch.no_grad()
    def module(self, row: int) -> nn.Module:
        """A module with a copy of one replica's parameters."""
        model = _fresh_model(self.make_model, 0).to(self.parameters.device)
        layers = self._layers(self.parameters[row : row + 1])
        for layer, (weight, bias) in zip(linear_layers(model) or [], layers, strict=True):
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0, 0])
        return model

    def state(self) -> dict[str, Any]:
        """Parameters and momenta, (R, P) each."""
        return {"parameters": self.parameters.clone(), "momentum": self.momentum.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
        self.parameters.copy_(state["parameters"])
        self.momentum.copy_(state["momentum"])


def _padded(rows: list[Tensor]) -> Tensor:
    """Stacks rows of unequal length, zeros behind the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def make_learner(
    make_model: Callable[[], nn.Module],
    dataset: Dataset,
    recipe: Recipe,
    num_replicas: int,
    device: torch.device,
    bf16: bool,
) -> Learner:
    """The learner that fits the model: stacked for plain ReLU nets, modules for all others."""
    if linear_layers(_fresh_model(make_model, 0)) is not None:
        return StackedLearner(make_model, dataset, recipe, num_replicas, device)
    return ModuleLearner(make_model, dataset, recipe, num_replicas, device, bf16)
