"""One module per replica, visited in turn: works for any `nn.Module`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dynprune_env.common.randomness import seeded
from dynprune_env.selection.budget import batch_sizes
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset
from dynprune_env.training.allocator import keep_freed_memory
from dynprune_env.training.learner import SCORING_BATCH, Pass, fresh_model
from dynprune_env.training.loading import input_tables


class ModuleLearner:
    """R ordinary modules, visited in turn: works for any `nn.Module`.

    Args:
        make_model: builds a fresh module from torch's global generator, which is seeded for it.
        dataset: on the device.
        recipe: how to train.
        num_replicas: R.
        device: where.
        averaging: see `Learner`.
        bf16: whether forward and backward run under bf16 autocast.
        torch_compile: whether `torch.compile` makes the models' code, on CUDA with graphs. Batches
            of the full size use it, other ones the plain module, so that nothing is compiled twice.
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        dataset: Dataset,
        recipe: Recipe,
        num_replicas: int,
        device: torch.device,
        *,
        averaging: float | None = None,
        bf16: bool = False,
        torch_compile: bool = False,
    ):
        if device.type == "cpu":
            keep_freed_memory()
        self.make_model = make_model
        self.recipe = recipe
        self.device = device
        self.averaging = averaging
        self.bf16 = bf16
        self.inputs = input_tables(dataset, recipe)
        self.labels = dataset.train.labels
        self.num_classes = dataset.info.num_classes
        # Convolutions run faster on channels last, on CPUs and on tensor cores.
        self.layout = (
            torch.channels_last if len(dataset.info.input_shape) == 3 else torch.contiguous_format
        )
        self.models: list[nn.Module] = []
        self.averages: list[list[Tensor]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        for row in range(num_replicas):
            self.models.append(
                fresh_model(make_model, row).to(device).to(memory_format=self.layout)
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
            if averaging is not None:
                self.averages.append([p.detach().clone() for p in self.models[row].parameters()])
        self.forwards: list[Callable[[Tensor], Tensor]] = list(self.models)
        if torch_compile:
            mode = "reduce-overhead" if device.type == "cuda" else None
            self.forwards = [torch.compile(model, mode=mode) for model in self.models]

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Re-initialises these replicas in place."""
        for row, seed in zip(rows, seeds, strict=True):
            self.models[row].load_state_dict(fresh_model(self.make_model, seed).state_dict())
            self.optimizers[row].state.clear()
            if self.averaging is not None:
                _copy_into(self.averages[row], self.models[row].parameters())

    def _forward(self, row: int, x: Tensor, full: bool) -> Tensor:
        """Logits, float32; `full` says whether the batch has the size that was compiled for."""
        model = self.forwards[row] if full else self.models[row]
        x = x.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return model(x).float()

    def train(self, passes: Sequence[Pass]) -> Tensor:
        """Trains one pass per replica; see `Learner.train`."""
        counts = [len(job.order) for job in passes]
        seen = torch.empty(sum(counts), self.num_classes, device=self.device)
        for row, (job, logits) in enumerate(zip(passes, seen.split(counts), strict=True)):
            if len(job.order):
                with seeded(job.seed, self.device):  # for what the model draws, as dropout does
                    self._train_one(row, job, logits)
        return seen

    def _train_one(self, row: int, job: Pass, seen: Tensor) -> None:
        """The hot loop: one pass over one replica's kept samples; `seen` takes their logits."""
        self.models[row].train()
        table, smoothing = self.inputs["train"], self.recipe.label_smoothing
        optimizer, per_batch = self.optimizers[row], self.recipe.batch_size
        sizes = batch_sizes(len(job.order), per_batch)
        for rate, ids, weights, x, logits in zip(
            job.rates.tolist(),
            job.order.split(sizes),
            job.weights.split(sizes),
            table.batches(job.order, sizes, job.noise, job.seed),
            seen.split(sizes),
            strict=True,
        ):
            if len(ids) == 1:  # no variance: batch norm takes its running averages
                _freeze_batch_norm(self.models[row])
            found = self._forward(row, x, full=len(ids) == per_batch)
            losses = F.cross_entropy(
                found, self.labels[ids], reduction="none", label_smoothing=smoothing
            )
            (losses * weights).mean().backward()
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            if self.averaging is not None:
                parameters = [p.detach() for p in self.models[row].parameters()]
                torch._foreach_lerp_(self.averages[row], parameters, 1 - self.averaging)
            logits[...] = found.detach()

    @torch.no_grad()
    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits in evaluation mode; see `Learner.score`."""
        for row in rows:
            self.models[row].eval()
        logits = torch.empty(len(rows), len(ids), self.num_classes, device=self.device)
        start = 0
        for x in self.inputs[split].batches(ids, SCORING_BATCH):
            chunk = slice(start, start := start + len(x))
            for i, row in enumerate(rows):
                logits[i, chunk] = self._forward(row, x, full=len(x) == SCORING_BATCH)
        return logits

    def module(self, row: int, averaged: bool = False) -> nn.Module:
        """A copy of one replica's model; an average has the buffers of its model."""
        model = copy.deepcopy(self.models[row])
        if averaged:
            _copy_into(model.parameters(), self.averages[row])
        return model

    def state(self) -> dict[str, Any]:
        """Parameters, buffers, momenta and averages of every replica."""
        return {
            "averages": [[_copy(tensor) for tensor in row] for row in self.averages],
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
        for own, saved in zip(self.averages, state["averages"], strict=True):
            _copy_into(own, saved)
        for optimizer, saved in zip(self.optimizers, state["momenta"], strict=True):
            optimizer.state.clear()
            for parameter, momentum in zip(optimizer.param_groups[0]["params"], saved, strict=True):
                if momentum is not None:  # None where no gradient has ever come
                    buffer = torch.empty_like(parameter).copy_(momentum)
                    optimizer.state[parameter]["momentum_buffer"] = buffer


@torch.no_grad()
def _copy_into(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _freeze_batch_norm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
