"""The game's engine: passes over kept samples, the budget, the schedule, evaluation, state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dynprune_env.common.alone import as_alone, same_again
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.common.pulse import doing
from dynprune_env.common.randomness import Purpose, stream, stream_seed
from dynprune_env.common.threads import one_blas_thread, torch_threads
from dynprune_env.common.transfer import along, fetch
from dynprune_env.selection.budget import (
    SCORING_COST,
    VisitBudget,
    batch_count,
    batch_middles,
    of_mean_one,
    visiting_order,
)
from dynprune_env.selection.statistics import MAX_LOSS, SampleStatistics, SampleValues
from dynprune_env.tasks.inputs import Streamed
from dynprune_env.tasks.losses import CLASSES
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset
from dynprune_env.training.learner import Learner, Passes, check_recipe, fresh_model, is_served
from dynprune_env.training.module_learner import ModuleLearner
from dynprune_env.training.module_state import NewModels
from dynprune_env.training.stacked_learner import StackedLearner, linear_layers


class Evaluation(NamedTuple):
    """Mean loss (nats) and accuracy in [0, 1]; (R,) float64 arrays, or floats.

    What they are where a sample has no class, `Objective` says.
    """

    loss: Any
    accuracy: Any


class Trainer:
    """R training runs under a budget of sample visits.

    Args:
        make_model: builds one fresh module.
        dataset: on `device`.
        recipe: how to train; `recipe.epochs` is T.
        num_replicas: R.
        budget: share of T n visits that a run may spend, in (0, 1].
        raw_weights: whether gradient weights are taken as they are. Otherwise they are scaled to a
            mean of one over what an epoch trains: they shift emphasis, not the step size.
        rescore: whether dropped samples are scored, and charged a third of a visit each.
        device: where to train.
        threads: of torch on a CPU; plain ReLU nets always take one, since more bring nothing to
            products this small, and are slow on a busy machine.
        learner: its kind; see `make_learner`.
        averaging: whether each model gets an average, and how slow; see `Learner`.
        bf16: whether modules train under bf16 autocast.
        torch_compile: whether modules run as `torch.compile` makes them.
        deterministic: whether cuDNN takes only algorithms that give the same numbers again.
        columns: of `statistics`, see there.

    Attributes:
        budget: what the runs may spend and have spent.
        threads: of torch, whatever is computed on the models.
        diverged: (R,) bool, whether a loss became non-finite (or reached 20 nats on val).
        train_loss: (R,) float64, mean loss of the last epoch's visits, in nats; at first that of a
            prediction that knows nothing (ln C).
        running: (R,) bool, which replicas were unfinished before the last epoch.
        val: how these do after it.
        seconds: of the host's wall clock since construction. `train` holds the preparation of
            passes, training, scoring what was dropped, and recording. `evaluate` holds evaluation;
            an accelerator only queues its work until the host waits for it there, so that most of
            its training belongs to `evaluate` as well.
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        dataset: Dataset,
        recipe: Recipe,
        num_replicas: int,
        *,
        budget: float,
        raw_weights: bool = False,
        rescore: bool = False,
        device: torch.device,
        threads: int = 1,
        learner: str = "auto",
        averaging: float | None = None,
        bf16: bool = False,
        torch_compile: bool = False,
        deterministic: bool = False,
        columns: Iterable[str] = SampleStatistics.COLUMNS,
    ):
        self.num_samples = len(dataset.train)
        self.budget = VisitBudget(num_replicas, self.num_samples, recipe.epochs, budget)
        self.dataset = dataset
        self.recipe = recipe
        self.raw_weights = raw_weights
        self.rescore = rescore
        self.device = device
        self.deterministic = deterministic
        with as_alone(device):
            self.learner = make_learner(
                make_model,
                dataset,
                recipe,
                num_replicas,
                device,
                kind=learner,
                averaging=averaging,
                bf16=bf16,
                torch_compile=torch_compile,
            )
        self._small = isinstance(self.learner, StackedLearner)
        self.threads = 1 if self._small else threads
        labels, classes = dataset.train.labels.cpu().numpy(), dataset.info.num_classes
        if dataset.info.labels != CLASSES:
            labels = np.zeros(len(labels), dtype=np.int64)
        start = self.learner.objective.start
        self.statistics = SampleStatistics(num_replicas, labels, classes, start, columns)
        self._first_loss = np.log(classes) if start is None else start["loss"]
        self.seeds = np.zeros(num_replicas, dtype=np.int64)
        self.diverged = np.zeros(num_replicas, dtype=bool)
        self.train_loss = np.full(num_replicas, self._first_loss)
        self.running = np.zeros(num_replicas, dtype=bool)
        self.val = Evaluation(np.zeros(0), np.zeros(0))
        self.seconds = {"train": 0.0, "evaluate": 0.0}

    @property
    def finished(self) -> np.ndarray:
        """Whether the episode is over, (R,) bool."""
        return self._over(self.budget.progress)

    def _over(self, progress: np.ndarray) -> np.ndarray:
        return (progress >= 1) | self.diverged

    def reset(self, rows: np.ndarray, seeds: Sequence[int]) -> None:
        """Starts new runs.

        Args:
            rows: which replicas.
            seeds: one run seed for each of them.
        """
        self.seeds[rows] = seeds
        self.budget.reset(rows)
        self.diverged[rows] = False
        self.train_loss[rows] = self._first_loss
        self.statistics.reset(rows)
        models = [stream_seed(int(seed), 0, Purpose.MODEL) for seed in seeds]
        with self.computing():
            self.learner.reset(rows.tolist(), models)

    def train_epoch(self, weights: np.ndarray) -> list[np.ndarray]:
        """One step of the game: one pass over the kept samples of every unfinished replica.

        These are then evaluated on the val split, see `val`. The host waits once for both.

        Args:
            weights: (R, n) float32, finite; 0 drops, w > 0 keeps with gradient weight w.

        Returns:
            For each replica the samples that were trained, (k,) int64, in order: the kept ones,
            cut short where the budget ran out, none if it had finished before.
        """
        start = time.perf_counter()
        before = self.budget.progress
        running = self.running = ~self._over(before)
        orders = self._orders(weights, np.where(running, self.budget.remaining, 0))
        self.budget.epoch += running
        self.budget.visits += [len(order) for order in orders]
        left_out = self._left_out(orders, running) if self.rescore else {}
        passes = self._passes(orders, weights, before)
        (rows,) = running.nonzero()
        seen: list[Tensor] = []  # of training, of scoring, of val
        found: list[np.ndarray] = []
        with self.computing():
            try:
                with along([*left_out.values()], self.device) as there:
                    seen.append(self._looked_at(self.learner.train(passes)))
                if left_out:
                    seen.extend(self._train_values(left_out, there))
                queued = time.perf_counter()
                with doing("evaluation on val"):
                    seen.append(self._split_values("val", rows))
                found = fetch(seen)  # all that the step waits for
                fetched = time.perf_counter()
            finally:  # an interrupted step has been charged for what it trained
                if seen:
                    self._record_step(passes, left_out, found or fetch(seen))
        self.val = self._evaluation("val", rows, found[-1])
        self.seconds["evaluate"] += fetched - queued
        self.seconds["train"] += queued - start + time.perf_counter() - fetched
        return orders

    def _orders(self, weights: np.ndarray, most: np.ndarray) -> list[np.ndarray]:
        """The first kept samples of each replica, in the order of one permutation of all n."""
        seeds, epochs = self.seeds.tolist(), self.budget.epoch.tolist()
        runs = zip(seeds, epochs, weights > 0, most.tolist(), strict=True)
        return [visiting_order(*run) for run in runs]

    def _left_out(self, orders: list[np.ndarray], running: np.ndarray) -> dict[int, np.ndarray]:
        """By replica what is scored since it is not trained, (k,) int64; charges it."""
        everything, remaining, found = np.arange(self.num_samples), self.budget.remaining, {}
        for row in np.flatnonzero(running).tolist():
            dropped = self.num_samples - len(orders[row])
            if 0 < dropped * SCORING_COST <= remaining[row] + 1e-6:
                found[row] = np.setdiff1d(everything, orders[row])
                self.budget.scored[row] += dropped
        return found

    def _passes(self, orders: list[np.ndarray], weights: np.ndarray, before: np.ndarray) -> Passes:
        """What an epoch that has been charged trains; the progress was `before`."""
        counts = [len(order) for order in orders]
        batches = [batch_count(count, self.recipe.batch_size) for count in counts]
        trained = [own.take(order) for own, order in zip(weights, orders, strict=True)]
        if not self.raw_weights:
            trained = [of_mean_one(own) for own in trained]
        return Passes(
            order=_joined(orders),
            weights=_joined(trained),
            starts=_starts(counts),
            rates=self._rates(before, batches),
            rate_starts=_starts(batches),
            noises=self._noises(orders),
            run_seeds=self.seeds.copy(),
            epoch=self.budget.epoch.copy(),
        )

    def _rates(self, before: np.ndarray, batches: list[int]) -> np.ndarray:
        """The learning rate of every batch: the schedule on the way from `before` to now."""
        start, way = before.repeat(batches), (self.budget.progress - before).repeat(batches)
        return self.recipe.rate(start + way * batch_middles(tuple(batches)))

    def _noises(self, orders: list[np.ndarray]) -> list[Tensor | None]:
        """What augmentation draws for all n: two masks under one seed differ in nothing else."""
        augmentation = self.recipe.augmentation
        if not augmentation:
            return [None] * len(orders)
        runs = zip(self.seeds.tolist(), self.budget.epoch.tolist(), orders, strict=True)
        return [
            augmentation.draw(self.num_samples, stream(seed, epoch, Purpose.AUGMENTATION))[order]
            for seed, epoch, order in runs
        ]

    def _record_step(
        self, passes: Passes, left_out: dict[int, np.ndarray], tables: list[np.ndarray]
    ) -> None:
        """Records what was trained, and then of what was left out as much as was scored."""
        starts = passes.starts
        first = self._whole(tables[0])
        means = self.statistics.record_rows(passes.order, starts, first, self.budget.epoch)
        visited = starts[1:] > starts[:-1]
        np.fmin(means, MAX_LOSS, out=self.train_loss, where=visited)  # NaN too
        self.diverged |= ~np.isfinite(means)
        scored = dict(zip(left_out, tables[1:], strict=False)) if left_out else {}
        if scored:
            none = np.zeros(0, dtype=np.int64)
            given = [left_out[row] if row in scored else none for row in range(len(passes))]
            table = self._whole(np.concatenate([*scored.values()], axis=1))
            starts = _starts([len(ids) for ids in given])
            means = self.statistics.record_rows(_joined(given), starts, table, None)
            self.diverged |= ~np.isfinite(means)

    def evaluate(self, split: str, rows: np.ndarray | None = None) -> Evaluation:
        """Loss and accuracy on a split, without augmentation or label smoothing.

        Args:
            split: "train", "val" or "test".
            rows: which replicas; None means all.

        Returns:
            (len(rows),) float64 each. A loss that is not finite counts as 20 nats, as wrong.

        Raises:
            ValueError: there is no such split.
        """
        if split not in ("train", "val", "test"):
            raise ValueError(f"split must be 'train', 'val' or 'test', got {split!r}")
        start = time.perf_counter()
        rows = np.arange(len(self.seeds)) if rows is None else rows
        with self.computing(), doing(f"evaluation on {split}"):
            (found,) = fetch([self._split_values(split, rows)])
        evaluation = self._evaluation(split, rows, found)
        self.seconds["evaluate"] += time.perf_counter() - start
        return evaluation

    def _split_values(self, split: str, rows: np.ndarray) -> Tensor:
        """See `Learner.evaluate`; there may be no rows."""
        labels = getattr(self.dataset, split).labels
        if not len(rows):
            return torch.empty((2, 0, len(labels)), dtype=torch.float32, device=self.device)
        return self.learner.evaluate(split, labels, rows.tolist())

    def _train_values(
        self, left_out: dict[int, np.ndarray], there: list[Tensor]
    ) -> Iterator[Tensor]:
        """The `value_table` of these samples under each replica, see `_looked_at`, on the device.

        Args:
            left_out: see `_left_out`.
            there: the same samples on the device.
        """
        streamed = self.learner.inputs["train"].streamed
        for (row, ids), own in zip(left_out.items(), there, strict=True):
            asked = torch.from_numpy(ids) if streamed else own
            logits = self.learner.score("train", asked, [row])[0]
            table = self.learner.objective.table(logits, self.dataset.train.labels[own])
            yield self._looked_at(table)

    def _looked_at(self, table: Tensor) -> Tensor:
        """Of a `value_table` what the statistics look at: the rest stays on an accelerator.

        One value that is not finite makes a prediction entirely wrong: then `correct` is NaN.
        """
        fields = self.statistics.fields
        if table.device.type == "cpu" or len(fields) == len(table):
            return table
        rows = [table[field] for field in fields]
        rows[-1] = rows[-1].where(table.isfinite().all(0), torch.nan)
        return torch.stack(rows)

    def _whole(self, rows: np.ndarray) -> np.ndarray:
        """A `value_table` of what `_looked_at` left; the rest is 0."""
        if len(rows) == len(SampleValues._fields):
            return rows
        table = np.zeros((len(SampleValues._fields), rows.shape[1]), dtype=np.float32)
        table[list(self.statistics.fields)] = rows
        return table

    def _evaluation(self, split: str, rows: np.ndarray, found: np.ndarray) -> Evaluation:
        """What `evaluate` returns, from what `_split_values` gave."""
        loss, merit = np.add.reduce(found.astype(np.float64), 2) / found.shape[2]
        accuracy = np.fmin(np.fmax(merit, 0), 1)  # NaN is 0
        loss = np.fmin(loss, MAX_LOSS)  # NaN too
        if split == "val":
            self.diverged[rows] |= loss == MAX_LOSS
        return Evaluation(loss, accuracy)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """For all that computes on the models: torch has `threads`, and see `as_alone`."""
        with (
            as_alone(self.device),
            same_again(self.deterministic),
            torch_threads(self.threads),
            one_blas_thread() if self._small else nullcontext(),  # products of one core's size
        ):
            yield

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors on the host: copies, not views."""
        return {
            "learner": self.learner.state(),
            "statistics": self.statistics.state(),
            "budget": {k: torch.from_numpy(v) for k, v in self.budget.state().items()},
            **{name: torch.from_numpy(getattr(self, name).copy()) for name in self._OWN},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave; the next epoch is then the same, bit for bit on a CPU.

        Raises:
            ValueError: it is of runs that kept fewer columns; nothing has changed then.
        """
        self.statistics.check_state(state["statistics"])
        with self.computing():
            self.learner.load_state(state["learner"])
        self.statistics.load_state(state["statistics"])
        self.budget.load_state({name: value.numpy() for name, value in state["budget"].items()})
        for name in self._OWN:
            getattr(self, name)[...] = state[name].numpy()

    _OWN = ("seeds", "diverged", "train_loss")


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One after the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _starts(counts: list[int]) -> np.ndarray:
    """Where each of so many begins, and the end of the last, (R + 1,) int64."""
    return np.array([0, *accumulate(counts)], dtype=np.int64)


def make_learner(
    make_model: Callable[[], nn.Module],
    dataset: Dataset,
    recipe: Recipe,
    num_replicas: int,
    device: torch.device,
    *,
    kind: str = "auto",
    averaging: float | None = None,
    bf16: bool = False,
    torch_compile: bool = False,
) -> Learner:
    """The learner of a kind, or the one that fits.

    "auto" takes modules for all but plain ReLU nets, for streamed inputs, and for recipes that the
    others do not serve (see `check_recipe`). These are compiled on a CPU, if numba is there, and
    stacked elsewhere.

    Args:
        make_model: builds one fresh module.
        dataset: on `device`.
        recipe: how to train.
        num_replicas: R.
        device: where.
        kind: one of LEARNERS.
        averaging: see `Learner`.
        bf16: see `ModuleLearner`.
        torch_compile: likewise.

    Raises:
        ValueError: what is to be trained does not fit the kind, or `make_model` does not build a
            new module at every call.
    """
    check_recipe(kind, recipe)
    streamed = isinstance(dataset.train.inputs, Streamed)
    made, first = NewModels(), fresh_model(make_model, 0)
    for model in (first, fresh_model(make_model, 0)):
        made.add(model)
    plain = not streamed and linear_layers(first) is not None
    on_cpu = device.type == "cpu" and not recipe.augmentation
    if kind == "auto":
        fast = "numba" if on_cpu and HAS_NUMBA else "stacked"
        kind = fast if plain and is_served(fast, recipe) else "modules"
    if kind == "modules":
        return ModuleLearner(
            make_model,
            dataset,
            recipe,
            num_replicas,
            device,
            averaging=averaging,
            bf16=bf16,
            torch_compile=torch_compile,
        )
    if not plain:
        raise ValueError(f"learner={kind!r} trains plain ReLU nets on inputs that are in memory")
    if kind == "stacked":
        return StackedLearner(
            make_model, dataset, recipe, num_replicas, device, averaging=averaging
        )
    if not (on_cpu and HAS_NUMBA):
        raise ValueError("learner='numba' needs numba, a CPU, and a recipe without augmentation")
    from dynprune_env.training.numba_learner import NumbaLearner  # slow to import

    return NumbaLearner(make_model, dataset, recipe, num_replicas, device, averaging=averaging)
