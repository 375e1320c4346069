"""What a rule may do beyond reading observations, each visit charged: probes and scoring runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from copy import deepcopy
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import debug_unwrap, functional_call, grad, vmap

from dynprune_env.common.draws import drawing
from dynprune_env.common.pulse import beat
from dynprune_env.common.randomness import Purpose, ReplicaRandom, stream_seed
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.ranking import keep_top
from dynprune_env.selection.statistics import SampleValues, finite_values
from dynprune_env.tasks.models import is_shipped
from dynprune_env.training.learner import SCORING_BATCH
from dynprune_env.training.stacked_learner import linear_layers
from dynprune_env.training.trainer import Trainer

_PAID = ContextVar("_PAID", default=False)
"""Whether the passes that are being made have been charged already."""


class TrainerProbe:
    """The `Probe` of a running episode.

    Args:
        trainer: of the episode.
        batched: whether results have the replica axis.
    """

    def __init__(self, trainer: Trainer | None, batched: bool = True):
        self._owner = trainer
        self._batched = batched
        # Samples drawn from `batches` that a replica's model has not seen yet, by run and epoch.
        self._drawn: dict[tuple[int, int, int], int] = {}

    @property
    def _trainer(self) -> Trainer:
        """The engine that is looked at, and charged."""
        if self._owner is None:
            raise RuntimeError(
                "this agent, or a model of its probe, is a copy and belongs to no environment: "
                "env.fork(agent) copies both, agent.reset(env.episode(seed)) begins an episode"
            )
        return self._owner

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainerProbe:
        """To the copy of the models where they are copied too, before it; else to none."""
        copied = TrainerProbe(memo.get(id(self._owner)), self._batched)
        copied._drawn = dict(self._drawn)
        return copied

    def __reduce__(self) -> tuple[type[TrainerProbe], tuple[None, bool]]:
        """To no models: the trainer does not go into a pickle."""
        return TrainerProbe, (None, self._batched)

    def models(self, averaged: bool = False) -> list[nn.Module]:
        """See `Probe.models`.

        Raises:
            ValueError: there are no averages.
        """
        trainer = self._trainer
        if averaged and trainer.learner.averaging is None:
            raise ValueError("there are no averaged models: set averaging in the environment")
        models = self._copies(averaged)
        for row, model in enumerate(models):
            model.register_forward_pre_hook(_Meter(self, row), with_kwargs=True)
        return models

    def losses(
        self, models: list[nn.Module] | None = None, where: np.ndarray | None = None
    ) -> np.ndarray | None:
        """See `Probe.losses`."""
        found = self._read(self._copies() if models is None else models, where)
        if found is None:
            return None
        losses = np.full(self._shape, np.nan, dtype=np.float32)
        objective = self._trainer.learner.objective
        with self._trainer.computing():
            for row, (ids, logits) in found.items():
                losses[row, ids] = finite_values(objective.values(logits, self._labels(ids))).loss
        return losses if self._batched else losses[0]

    def features(self, where: np.ndarray | None = None) -> np.ndarray | None:
        """See `Probe.features`."""
        found = self._read([_penultimate(model) for model in self._copies()], where)
        if found is None:
            return None
        width = next(values.shape[1] for _, values in found.values())
        features = np.full((*self._shape, width), np.nan, dtype=np.float32)
        for row, (ids, values) in found.items():
            features[row, ids] = values.float().cpu().numpy()
        return features if self._batched else features[0]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Probe.batches`."""
        for start in range(0, self._trainer.num_samples, size):
            ids = np.arange(start, min(start + size, self._trainer.num_samples))
            if not self._pay(np.full(len(self._trainer.seeds), len(ids)), together=True).all():
                raise RuntimeError(
                    f"the budget cannot pay for reading {len(ids)} samples, a third of a visit each"
                )
            with self._trainer.computing():
                inputs = self._trainer.learner.inputs["train"].batch(self._on_device(ids))
            self._drawn = {run: self._drawn.get(run, 0) + len(ids) for run in self._runs()}
            yield inputs, self._labels(ids)

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self._trainer.seeds), self._trainer.num_samples

    def _copies(self, averaged: bool = False) -> list[nn.Module]:
        """Each replica's model in evaluation mode, free to run: for what has been paid."""
        trainer = self._trainer
        with trainer.computing():
            rows = range(len(trainer.seeds))
            return [trainer.learner.module(row, averaged).eval() for row in rows]

    def _runs(self) -> list[tuple[int, int, int]]:
        """Row, run seed and epochs done of each replica."""
        trainer = self._trainer
        seeds, epochs = trainer.seeds.tolist(), trainer.budget.epoch.tolist()
        return list(zip(range(len(seeds)), seeds, epochs, strict=True))

    def _read(
        self, parts: Sequence[Callable[[Tensor], Tensor]], where: np.ndarray | None
    ) -> dict[int, tuple[np.ndarray, Tensor]] | None:
        """Sample ids, and what its model or a part of it makes of them, by replica that paid."""
        masks = np.ones(self._shape, dtype=bool) if where is None else np.atleast_2d(where)
        paid = self._pay(masks.sum(1))
        if not (paid & ~self._trainer.finished).any():
            return None
        found = {}
        with self._trainer.computing():
            for row, (part, mask) in enumerate(zip(parts, masks, strict=True)):
                if paid[row]:
                    ids = np.flatnonzero(mask)
                    found[row] = ids, _forward(part, self._trainer, self._on_device(ids))
        return found

    def _pay(self, counts: np.ndarray, together: bool = False) -> np.ndarray:
        """Charges forward passes to each replica that can pay.

        Args:
            counts: (R,) samples.
            together: whether all must be able to pay, or nobody does.

        Returns:
            (R,) bool, who paid; those that are over pay nothing, and count as if they had.
        """
        trainer = self._trainer
        paid = trainer.finished | (trainer.budget.remaining >= counts * SCORING_COST + 1)
        if together and not paid.all():
            paid[:] = False
        charged = paid & ~trainer.finished
        trainer.budget.scored[charged] += counts[charged]
        return np.asarray(paid)

    def _pay_pass(self, row: int, count: int) -> None:
        """Charges a pass of so many samples through a replica's model, less what was drawn.

        Raises:
            RuntimeError: the budget cannot pay for it.
        """
        run, counts = self._runs()[row], np.zeros(len(self._trainer.seeds), dtype=np.int64)
        drawn = min(count, self._drawn.get(run, 0))
        counts[row] = count - drawn
        if not self._pay(counts)[row]:
            raise RuntimeError(
                f"the budget cannot pay for a pass of {counts[row]} samples through the model of "
                f"replica {row}, a third of a visit each"
            )
        if drawn:
            self._drawn[run] -= drawn

    def _labels(self, ids: np.ndarray) -> Tensor:
        return self._trainer.dataset.train.labels[self._on_device(ids)]

    def _on_device(self, ids: np.ndarray) -> Tensor:
        return torch.from_numpy(ids).to(self._trainer.device)


class _Meter:
    """A forward pre-hook of a replica's model: every pass is paid before it is made.

    Args:
        probe: who charges.
        row: which replica.
    """

    def __init__(self, probe: TrainerProbe, row: int):
        self._probe = probe
        self._row = row

    def __call__(self, model: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Pays for the samples of the first input."""
        if not _PAID.get():
            x = next(iter((*args, *named.values())), None)
            self._probe._pay_pass(self._row, _sample_count(x) if isinstance(x, Tensor) else 0)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Meter:
        """Charges the copy of the run where it is copied too, else the same run."""
        probe = self._probe
        return _Meter(deepcopy(probe, memo) if id(probe._owner) in memo else probe, self._row)


def _sample_count(x: Tensor) -> int:
    """B of a batch; under `vmap`, which shows a part, that of all parts together."""
    return x.shape[:1].numel() * (debug_unwrap(x).numel() // max(1, x.numel()))


def is_probe_of(probe: object, trainer: Trainer) -> bool:
    """Whether this gives access to these models, and charges them."""
    return isinstance(probe, TrainerProbe) and probe._owner is trainer


@contextmanager
def _paid() -> Iterator[None]:
    """Passes of this thread have been charged already."""
    token = _PAID.set(True)
    try:
        yield
    finally:
        _PAID.reset(token)


@torch.no_grad()
def _forward(part: Callable[[Tensor], Tensor], trainer: Trainer, ids: Tensor) -> Tensor:
    """What a model, or a part of it, makes of these samples, which are paid."""
    table = trainer.learner.inputs["train"]
    with _drawing(trainer), _paid():
        # Copies: a module may hand out the same memory at every call.
        parts = []
        for place, x in enumerate(table.batches(ids, SCORING_BATCH)):
            beat(place * SCORING_BATCH / max(1, len(ids)))
            parts.append(part(x).to(torch.float32, copy=True))
    return torch.cat(parts)


def _drawing(trainer: Trainer) -> AbstractContextManager[None]:
    """Some models of users draw in evaluation mode too."""
    if is_shipped(trainer.learner.make_model):
        return nullcontext()
    return drawing(0, trainer.device)


def _penultimate(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """From inputs to what the last linear layer sees, (B, d)."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError("features are what the last linear layer sees: this model has none")
    seen: list[Tensor] = []
    # A copy: what follows in the module may work in place.
    layers[-1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].clone()))

    def features(x: Tensor) -> Tensor:
        seen.clear()
        model(x)
        return seen[-1].flatten(1)

    return features


def _gradient_norms(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    losses: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Norm of each sample's gradient over all parameters, (B,)."""
    if (layers := linear_layers(model)) is not None:
        return _plain_gradient_norms(layers, inputs, labels, losses)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(parameters: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (parameters, buffers), (x[None],))
        return losses(logits, label[None]).sum()

    gradients = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")(
        parameters, inputs, labels
    )
    squares = [value.square().reshape(len(inputs), -1).sum(1) for value in gradients.values()]
    return torch.stack(squares).sum(0).sqrt()


def _plain_gradient_norms(
    layers: list[nn.Linear],
    inputs: Tensor,
    labels: Tensor,
    losses: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The same of a plain ReLU net, without the gradients (Goodfellow 2015, arXiv:1510.01799).

    A layer's is an outer product: its squared norm is that of the slopes behind the layer times
    that of what the layer sees, the bias seeing 1.
    """
    with torch.no_grad():
        seen = [inputs.flatten(1)]
        for layer in layers[:-1]:
            seen.append(layer(seen[-1]).relu_())
        logits = layers[-1](seen[-1])
    with torch.enable_grad():
        loss = losses(logits.requires_grad_(), labels).sum()
    (slopes,) = torch.autograd.grad(loss, logits)
    squares = seen[0].new_zeros(len(inputs))
    with torch.no_grad():
        for layer, h in zip(reversed(layers), reversed(seen), strict=True):
            squares += slopes.square().sum(1) * (h.square().sum(1) + 1)
            if layer is not layers[0]:
                slopes = (slopes @ layer.weight) * (h > 0)
    return squares.sqrt()


class TrainingRuns(Protocol):
    """What scoring runs need of a vector environment."""

    @property
    def trainer(self) -> Trainer:
        """The engine."""

    def reset(self, *, seed: Any = None) -> tuple[Any, dict[str, Any]]:
        """Starts the runs."""

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Trains an epoch of each."""


class EnvScoringRuns:
    """The `ScoringRuns` of an environment.

    Args:
        make_envs: makes the training runs, R of them side by side, with a budget of 1.
        seeds: the agent's, one per replica; a single number for arrays without that axis.
        epochs: T of a full run.
        num_samples: n.

    Attributes:
        epochs, num_samples: as given.
        visits: (R,) float64, what was charged so far.
    """

    def __init__(
        self,
        make_envs: Callable[[], TrainingRuns],
        seeds: int | tuple[int, ...],
        epochs: int,
        num_samples: int,
    ):
        self._make_envs = make_envs
        self._batched = not isinstance(seeds, int)
        self._seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        own = [stream_seed(seed, 0, Purpose.SCORING) for seed in self._seeds]
        self._rng = ReplicaRandom(own if self._batched else own[0])  # apart from the agent's
        self._running: TrainingRuns | None = None
        self.epochs = epochs
        self.num_samples = num_samples
        self.visits = np.zeros(len(self._seeds))

    def run(
        self, index: int, epochs: int, mask: np.ndarray | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """See `ScoringRuns.run`."""
        own = np.ones(self.num_samples, dtype=bool) if mask is None else np.array(mask)
        shape = (len(self.visits), self.num_samples)
        return self._steps(index, epochs, np.broadcast_to(own, shape))

    def _steps(self, index: int, epochs: int, mask: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        envs = self._running = self._make_envs()
        seeds = [stream_seed(seed, index, Purpose.SCORING) for seed in self._seeds]
        envs.reset(seed=[seed % 2**31 for seed in seeds])
        for epoch in range(epochs):
            beat(epoch / epochs)
            observation, _, _, _, infos = envs.step(mask)
            self.visits += infos["kept"]
            yield {name: self.as_observed(column) for name, column in observation.items()}

    def models(self) -> list[nn.Module]:
        """See `ScoringRuns.models`."""
        trainer = self._trainer()
        with trainer.computing():
            return [trainer.learner.module(row).eval() for row in range(len(trainer.seeds))]

    def values(self, models: list[nn.Module] | None = None) -> SampleValues:
        """See `ScoringRuns.values`."""
        trainer = self._trainer()
        labels, objective = trainer.dataset.train.labels, trainer.learner.objective
        found = self._logits(self.models() if models is None else models)
        with trainer.computing():
            rows = [finite_values(objective.values(logits, labels)) for logits in found]
        return SampleValues(*(self.as_observed(np.stack(part)) for part in zip(*rows, strict=True)))

    def probabilities(self) -> np.ndarray:
        """See `ScoringRuns.probabilities`."""
        found, trainer = self._logits(self.models()), self._trainer()
        with trainer.computing():
            p = trainer.learner.objective.probabilities(torch.stack(found))
            return self.as_observed(p.cpu().numpy())

    def _logits(self, models: list[nn.Module]) -> list[Tensor]:
        """(n, C) of each replica, charged."""
        trainer = self._trainer()
        self.charge(SCORING_COST)
        ids = torch.arange(trainer.num_samples, device=trainer.device)
        with trainer.computing():
            return [_forward(model.eval(), trainer, ids) for model in models]

    def gradient_norms(self, chunk: int | None = None) -> np.ndarray:
        """See `ScoringRuns.gradient_norms`."""
        trainer = self._trainer()
        self.charge(1.0)
        data, table = trainer.dataset.train, trainer.learner.inputs["train"]
        losses = trainer.learner.objective.losses
        rows = []
        for model in self.models():
            size = chunk or max(1, 2**24 // sum(p.numel() for p in model.parameters()))
            parts = torch.arange(len(data), device=trainer.device).split(size)
            with trainer.computing(), _drawing(trainer):
                norms = []
                for place, ids in enumerate(parts):
                    beat(place / len(parts))
                    given = table.batch(ids), data.labels[ids]
                    norms.append(_gradient_norms(model, *given, losses))
                rows.append(torch.cat(norms).cpu().numpy())
        return self.as_observed(np.stack(rows))

    def charge(self, passes: float) -> None:
        """See `ScoringRuns.charge`."""
        self.visits += passes * self.num_samples

    def random_mask(self, share: float) -> np.ndarray:
        """See `ScoringRuns.random_mask`."""
        draws = self._rng.random(self.num_samples)
        return keep_top(draws, round(share * self.num_samples), self._rng)

    def as_observed(self, rows: np.ndarray) -> np.ndarray:
        """See `ScoringRuns.as_observed`."""
        return rows if self._batched else rows[0]

    def _trainer(self) -> Trainer:
        """That of the latest run."""
        if self._running is None:
            raise RuntimeError("there was no run yet: call run()")
        return self._running.trainer
