"""Small nets that keep something outside their state_dict, and change it as they train."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dynprune_env import DynPruneVectorEnv, Recipe, own_task
from dynprune_env.tasks.registry import TASKS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype(np.float32)
Y = (X[:, 0] + 0.5 * RNG.normal(size=200) > 0).astype(np.int64)
SCALE = torch.tensor(1.0)  # what a user's module keeps once for all models


class Base(nn.Module):
    """A small net whose hidden layer is scaled by something that each training pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.begin()

    def begin(self) -> None:
        """Sets up what is changed."""

    def factor(self) -> Any:
        """Changes it, and reads it."""
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)) * self.factor())


class Counter(Base):
    def begin(self) -> None:
        self.passes = 0

    def factor(self) -> float:
        self.passes += self.training
        return 1 + self.passes / 4


class EvaluationCounter(Base):
    def begin(self) -> None:
        self.passes = 0

    def factor(self) -> float:
        self.passes += 1
        return 1 + self.passes / 50


class Buffer(Base):
    def begin(self) -> None:
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def factor(self) -> Tensor:
        if self.training:
            self.scale *= 1.1
        return self.scale


class ReplacedBuffer(Base):
    """First there is none, then one of another shape at every pass."""

    def begin(self) -> None:
        self.register_buffer("scale", None)

    def factor(self) -> Tensor:
        old = torch.ones(1) if self.scale is None else self.scale
        if self.training:
            self.scale = torch.cat([old, old[:1] * 1.1])
        return old.mean()


class LateBuffer(Base):
    def factor(self) -> Tensor:
        if "late" not in self._buffers:
            self.register_buffer("late", torch.ones(()))
        if self.training:
            self.late += 0.1
        return self.late


class PlainTensor(Base):
    def begin(self) -> None:
        self.scale = torch.ones(1)

    def factor(self) -> Tensor:
        if self.training:
            self.scale.mul_(1.1)
        return self.scale


class SharedTensor(Base):
    """The factory's own tensor is in every model."""

    def begin(self) -> None:
        self.scale = SCALE
        self.register_buffer("other", SCALE)

    def factor(self) -> Tensor:
        if self.training:
            self.scale.mul_(1.1)
            self.other.add_(0.1)
        return self.scale * self.other


class Nested(Base):
    def __init__(self, history: list[Any] = []) -> None:  # noqa: B006, as users do
        self._history = history
        super().__init__()

    def begin(self) -> None:
        self.memory = {"mean": torch.ones(()), "steps": (0, [0.0]), "history": self._history}

    def factor(self) -> Tensor:
        steps, trace = self.memory["steps"]
        if self.training:
            self.memory["mean"] = self.memory["mean"] * 1.05
            self.memory["steps"] = (steps + 1, [*trace, 1.0])
            self.memory["history"].append(steps)
        return self.memory["mean"] + steps / 10 + len(trace) / 10 + len(self.memory["history"]) / 9


class Activations(Base):
    """Keeps its last activations, gradients and all, as `self.features = h` does."""

    def begin(self) -> None:
        self.features: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if self.training:
            self.drift = 0.0 if self.features is None else float(self.features.detach().mean())
            self.features = h
        return self.last(h + getattr(self, "drift", 0.0))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.passes, self.limit = 0, None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes, self.limit = self.passes + 1, "some"
        return x * (1 + self.passes / 4)


class InAPart(Base):
    def begin(self) -> None:
        self.part = nn.Sequential(Inner(), Inner())

    def factor(self) -> Any:
        return self.part(torch.ones(()))


class Deleted(Base):
    def begin(self) -> None:
        self.left = [1.0, 2.0]

    def factor(self) -> float:
        if self.training and hasattr(self, "left"):
            del self.left
        return 2.0 if hasattr(self, "left") else 1.0


class Freezing(Base):
    """Its first layer trains for an epoch and a half."""

    def begin(self) -> None:
        self.passes = 0

    def factor(self) -> float:
        self.passes += self.training
        if self.passes > 7:
            self.first.requires_grad_(False)
        return 1.0


class Recurrent(nn.Module):
    """Torch's own module with references to its parameters in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x[..., None])[0][:, -1])


class Hooked(Base):
    """A hook that reaches the module through a closure."""

    def begin(self) -> None:
        self.seen = 1.0
        self.first.register_forward_hook(lambda *_: setattr(self, "seen", self.seen * 1.1))

    def factor(self) -> float:
        return self.seen


class Drawing(Base):
    """Draws in evaluation mode too."""

    def factor(self) -> Tensor:
        return 1 + torch.rand(()) / 2


SAVED = [
    *(Counter, EvaluationCounter, Buffer, ReplacedBuffer, LateBuffer, PlainTensor, SharedTensor),
    *(Nested, Activations, InAPart, Deleted, Freezing, Recurrent, Drawing),
]


class Queue(Base):
    def begin(self) -> None:
        self.queue = deque([1.0], maxlen=3)

    def factor(self) -> float:
        if self.training:
            self.queue.append(self.queue[-1] * 1.1)
        return sum(self.queue)


class NumpyDraws(Base):
    def begin(self) -> None:
        self.rng = np.random.default_rng(0)

    def factor(self) -> float:
        return 1 + self.rng.random() / 2 if self.training else 1.0


class TorchDraws(Base):
    def begin(self) -> None:
        self.rng = torch.Generator().manual_seed(0)

    def factor(self) -> Any:
        return 1 + torch.rand((), generator=self.rng) / 2 if self.training else 1.0


class Held:
    def __init__(self) -> None:
        self.value = 1.0


class Holder(Base):
    def begin(self) -> None:
        self.held = Held()

    def factor(self) -> float:
        if self.training:
            self.held.value *= 1.1
        return self.held.value


class Stream(Base):
    def begin(self) -> None:
        self.values: Iterator[float] = (1 + i / 10 for i in itertools.count())

    def factor(self) -> float:
        return next(self.values) if self.training else 1.0


class Unlisted(Base):
    """A layer that torch does not know of."""

    def begin(self) -> None:
        self.layers = [nn.BatchNorm1d(8)]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers[0](self.first(x)))


REFUSED = {
    Queue: "'queue' (deque)",
    NumpyDraws: "'rng' (Generator)",
    TorchDraws: "'rng' (Generator)",
    Holder: "'held' (Held)",
    Stream: "'values' (generator)",
    Unlisted: "'layers' (list)",
}


class Unchanged(Base):
    """Has much that cannot be saved, and never changes it."""

    def begin(self) -> None:
        self.queue, self.lock, self.kind = deque([1]), threading.Lock(), Held
        self.rng, self.activation = np.random.default_rng(0), lambda x: x
        self.parts = [self.first, self.last.weight]
        self.method, self.held = self.factor, Held()


def envs_of(
    model: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch, replicas: int = 2, **given: Any
) -> DynPruneVectorEnv:
    recipe = Recipe(epochs=4, batch_size=16, learning_rate=0.05)
    task = own_task((X[:140], Y[:140]), (X[140:], Y[140:]), model, recipe)
    monkeypatch.setitem(TASKS, "Hidden", task)
    return DynPruneVectorEnv(replicas, "Disabled", task="Hidden", device="cpu", **given)
