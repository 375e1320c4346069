"""One module per replica, visited in turn: works for any `nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dynprune_env.common.alone import float32_default
from dynprune_env.common.draws import OwnDraws, WatchedDraws
from dynprune_env.common.pulse import beat
from dynprune_env.common.randomness import Purpose, seeded, stream_seed
from dynprune_env.common.transfer import put, send
from dynprune_env.selection.budget import batch_sizes
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset
from dynprune_env.training.allocator import keep_freed_memory
from dynprune_env.training.learner import SCORING_BATCH, Passes, fresh_model, scored_split
from dynprune_env.training.loading import input_tables
from dynprune_env.training.module_state import (
    NewModels,
    copy_of,
    draws_in_training,
    is_own,
    load_module_state,
    module_state,
    move_into,
    others,
    unchanged,
    with_own_state,
)
from dynprune_env.training.objective import objective_of
from dynprune_env.training.optimizers import (
    kept_state,
    load_kept_state,
    make_optimizer,
    start_in_place,
)
from dynprune_env.training.step_graphs import Batch, Lanes, StepGraph


@dataclass(frozen=True)
class _Replica:
    """One module and all that belongs to it.

    Attributes:
        seed: that the module was made from.
        model: the module.
        forward: the same, or what `torch.compile` made of it.
        optimizer: of its parameters.
        average: of its parameters; None where none is kept.
        made: a fingerprint of what cannot be saved, as it was when the module was made.
        is_own: whether it may keep a state of its own kind.
        draws: whether it may draw in training.
    """

    seed: int
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    average: list[Tensor] | None
    made: dict[str, str]
    is_own: bool
    draws: bool


class _Job(NamedTuple):
    """A pass on the device.

    Attributes:
        ids: (k,) int64, its samples, where the inputs are looked up.
        labels: (k,) int64, or (k, ...) float32 where they are no classes.
        weights: (k,) float32.
        rates: of each batch; numbers on a CPU, (b,) () float32 elsewhere.
        noise: (k, 3) int64 or None.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor
    rates: Sequence[float | Tensor]
    noise: Tensor | None

    def batches(self, sizes: list[int]) -> Iterator[Batch]:
        """The pass cut into batches of these sizes."""
        noise = repeat(None) if self.noise is None else self.noise.split(sizes)
        parts = self.ids.split(sizes), self.labels.split(sizes), self.weights.split(sizes)
        return map(Batch, *parts, self.rates, noise)


class ModuleLearner:
    """R ordinary modules, visited in turn: works for any `nn.Module`.

    On CUDA, steps of models that neither draw nor keep a state of their own are recorded and
    replayed, see `StepGraph`, and a few replicas train at the same time.

    Args:
        make_model: builds a fresh module, see `fresh_model`.
        dataset: on the device.
        recipe: how to train.
        num_replicas: R.
        device: where.
        averaging: see `Learner`.
        bf16: whether forward and backward run under bf16 autocast.
        torch_compile: whether `torch.compile` makes the models' code. Batches of the full size use
            it, other ones the plain module, so that nothing is compiled twice.
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
        self.on_cpu = device.type == "cpu"
        self.averaging = averaging
        self.bf16 = bf16
        self.inputs = input_tables(dataset, recipe)
        self.labels = dataset.train.labels
        self.objective = objective_of(recipe, dataset)
        self.num_outputs = dataset.info.outputs
        # Convolutions run faster on channels last, on CPUs and on tensor cores.
        self.layout = (
            torch.channels_last if len(dataset.info.input_shape) == 3 else torch.contiguous_format
        )
        self.torch_compile = torch_compile
        self._made = NewModels()
        self._lanes = Lanes(device, num_replicas)
        self._graphs: dict[int, StepGraph] = {}
        self.replicas: list[_Replica] = []
        for row in range(num_replicas):
            self.replicas.append(self._make(row, row))

    @property
    def models(self) -> list[nn.Module]:
        """The modules themselves, not copies."""
        return [replica.model for replica in self.replicas]

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """That of each module."""
        return [replica.optimizer for replica in self.replicas]

    def _make(self, row: int, seed: int) -> _Replica:
        """A new module and all that belongs to it: nothing is left of the one that it replaces.

        Where compiled code or a recorded step may go on, it lies in the same memory.
        """
        old = self.replicas[row] if row < len(self.replicas) else None
        model = fresh_model(self.make_model, seed)
        model = send(model, self.device).to(memory_format=self.layout)
        self._made.add(model)
        model = with_own_state(model)
        kinds = is_own(model), draws_in_training(model)
        records, in_place = self._records(kinds[1]), False
        if old is not None and (records or self.torch_compile):
            in_place = move_into(model, old.model)
        forward: Callable[[Tensor], Tensor] = model
        if self.torch_compile:
            mode = "reduce-overhead" if self._lanes and not records else None
            # Two sizes of batch come here, of training and of scoring: code for each of them.
            forward = torch.compile(model, mode=mode, dynamic=False)
        optimizer = make_optimizer(model, self.recipe)
        average = None
        if self.averaging is not None:
            average = [p.detach().clone() for p in model.parameters()]
        if old is not None and records and in_place:
            start_in_place(optimizer, old.optimizer)
            if average and old.average:
                _copy_into(old.average, average)
                average = old.average
        else:
            self._graphs.pop(row, None)
        made = others(model)
        return _Replica(seed, model, forward, optimizer, average, made, *kinds)

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Gives these replicas new modules."""
        for row, seed in zip(rows, seeds, strict=True):
            self.replicas[row] = self._make(row, seed)

    def _records(self, draws: bool) -> bool:
        """Whether steps of a model are recorded: not if it may draw or its inputs are streamed."""
        return bool(self._lanes) and not draws and not self.inputs["train"].streamed

    def _forward(self, row: int, x: Tensor, full: bool) -> Tensor:
        """Outputs, float32; `full` says whether the batch has the size that was compiled for."""
        replica = self.replicas[row]
        model = replica.forward if full else replica.model
        x = x.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            found = model(x).float()
        if self.bf16:  # within a caller's autocast, weights cast before a step would be kept
            torch.clear_autocast_cache()
        return found if found.dim() == 2 else found[:, None]  # one number a sample

    def train(self, passes: Passes) -> Tensor:
        """Trains one pass per replica; see `Learner.train`."""
        counts = np.diff(passes.starts).tolist()
        shape = sum(counts), self.num_outputs
        seen = torch.empty(shape, dtype=torch.float32, device=self.device)
        jobs = self._on_device(passes)
        with self._lanes.joined():
            for row, (job, logits) in enumerate(zip(jobs, seen.split(counts), strict=True)):
                if len(job.ids):
                    seed, draws = passes[row].seed, self.replicas[row].draws
                    with self._lanes.of(row), self._drawing(row, seed, draws) as drawing:
                        self._train_one(row, seed, job, logits, drawing)
        return self.objective.table(seen, torch.cat([job.labels for job in jobs]))

    def _on_device(self, passes: Passes) -> list[_Job]:
        """The passes, taken over in one copy."""
        kinds = [
            [job.order.numpy() for job in passes],
            [job.weights.numpy() for job in passes],
            [job.rates.astype(np.float32) for job in passes],
            [job.noise.numpy() for job in passes if job.noise is not None],
        ]
        there = iter(put([array for kind in kinds for array in kind], self.device))
        orders, weights, rates, noises = ([next(there) for _ in kind] for kind in kinds)
        streamed = self.inputs["train"].streamed
        return [
            _Job(
                ids=job.order if streamed else orders[row],
                labels=self.labels[orders[row]],
                weights=weights[row],
                rates=job.rates.tolist() if self.on_cpu else rates[row].unbind(),
                noise=noises[row] if noises else None,
            )
            for row, job in enumerate(passes)
        ]

    def _train_one(
        self, row: int, seed: int, job: _Job, seen: Tensor, draws: AbstractContextManager[Any]
    ) -> None:
        """The hot loop: one pass over one replica's kept samples; `seen` takes their logits."""
        self.replicas[row].model.train()
        table, per_batch, passes = self.inputs["train"], self.recipe.batch_size, len(self.replicas)
        sizes = batch_sizes(len(job.ids), per_batch)
        streamed = (
            table.batches(job.ids, sizes, job.noise, seed) if table.streamed else repeat(None)
        )
        step = partial(self._step, row, draws=draws)
        graph = None
        if self._records(self.replicas[row].draws):
            graph = self._graphs.setdefault(row, StepGraph(self._lanes.recorded(row)))
        # Not strict: what stands for the inputs that are not streamed has no end.
        for x, place, batch, logits in zip(
            streamed, range(len(sizes)), job.batches(sizes), seen.split(sizes), strict=False
        ):
            beat((row + place / len(sizes)) / passes)
            if graph is not None and len(batch.labels) == per_batch:
                logits[...] = graph(step, batch)
            else:
                logits[...] = step(batch, x)

    def _step(
        self, row: int, batch: Batch, x: Tensor | None = None, *, draws: AbstractContextManager[Any]
    ) -> Tensor:
        """One gradient step; gives the logits that it was taken at.

        Args:
            row: whose.
            batch: what it trains on.
            x: its inputs, where they are streamed.
            draws: what the forward pass runs in.
        """
        replica, optimizer = self.replicas[row], self.replicas[row].optimizer
        if x is None:
            x = self.inputs["train"].batch(batch.ids, batch.noise)
        if len(x) == 1:  # no variance: batch norm takes its running averages
            _freeze_batch_norm(replica.model)
        with draws:
            found = self._forward(row, x, full=len(x) == self.recipe.batch_size)
        losses = self.objective.trained(found, batch.labels)
        (losses * batch.weights).mean().backward()
        optimizer.param_groups[0]["lr"] = batch.rate
        optimizer.step()
        optimizer.zero_grad()
        if self.averaging is not None and replica.average is not None:
            parameters = [p.detach() for p in replica.model.parameters()]
            torch._foreach_lerp_(replica.average, parameters, 1 - self.averaging)
        return found.detach()

    @torch.no_grad()
    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits in evaluation mode; see `Learner.score`."""
        for row in rows:
            self.replicas[row].model.eval()
        with ExitStack() as stack:
            for row in rows:
                if self.replicas[row].is_own:  # no run depends on who has looked at it
                    stack.enter_context(unchanged(self.replicas[row].model))
            return self._score(split, ids, rows)

    def _score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        shape = len(rows), len(ids), self.num_outputs
        logits = torch.empty(shape, dtype=torch.float32, device=self.device)
        start = 0
        for x in self.inputs[split].batches(ids, SCORING_BATCH):
            beat(start / len(ids))
            chunk = slice(start, start := start + len(x))
            with self._lanes.joined():
                for i, row in enumerate(rows):
                    replica = self.replicas[row]  # a few draw in evaluation mode too
                    seed = stream_seed(replica.seed, start, Purpose.SCORING)
                    with (
                        self._lanes.of(row),
                        self._drawing(row, seed, replica.is_own) as draws,
                        draws,
                    ):
                        # A model may work in place, and others may not have read x yet.
                        own = x.clone() if self._lanes or i + 1 < len(rows) else x
                        full = len(x) == SCORING_BATCH
                        logits[i, chunk] = self._forward(row, own, full=full)
        return logits

    @contextmanager
    def _drawing(self, row: int, seed: int, draws: bool) -> Iterator[AbstractContextManager[Any]]:
        """Gives what each forward pass runs in, so that what it draws comes from this seed.

        Args:
            row: whose model runs.
            seed: of what it draws, as dropout does.
            draws: whether it may draw at all.
        """
        is_own = self.replicas[row].is_own
        eager = self.on_cpu and not self.torch_compile
        if not draws:
            yield nullcontext()
        elif eager and not is_own:
            yield OwnDraws(seed)
        else:
            with float32_default(), seeded(seed, self.device):
                yield WatchedDraws(seed) if eager else nullcontext()

    def evaluate(self, split: str, labels: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Learner.evaluate`."""
        return scored_split(self, split, labels, rows)

    def module(self, row: int, averaged: bool = False) -> nn.Module:
        """A copy of one replica's model; an average has the buffers of its model."""
        replica = self.replicas[row]
        model = copy_of(replica.model)
        if averaged:
            _copy_into(model.parameters(), replica.average or ())
        return model

    def state(self) -> dict[str, Any]:
        """All that the modules and their optimisers hold, seeds, averages, replica by replica.

        Raises:
            ValueError: a model holds what cannot be saved; see `module_state`.
        """
        replicas = self.replicas
        return {
            "seeds": [each.seed for each in replicas],
            "averages": [
                [tensor.detach().to("cpu", copy=True) for tensor in each.average or ()]
                for each in replicas
            ],
            "models": [module_state(each.model, each.made) for each in replicas],
            "optimizers": [kept_state(each.optimizer) for each in replicas],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
        names = ("seeds", "models", "averages", "optimizers")
        for row, parts in enumerate(zip(*(state[name] for name in names), strict=True)):
            seed, saved, average, kept = parts
            replica = self.replicas[row]
            replica = self._make(row, seed) if replica.is_own else replace(replica, seed=seed)
            self.replicas[row] = replica
            load_module_state(replica.model, saved, self.device)
            _copy_into(replica.average or (), average)
            load_kept_state(replica.optimizer, kept)
        self._graphs.clear()


@torch.no_grad()
def _copy_into(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _freeze_batch_norm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
